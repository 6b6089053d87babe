"""What a box shows of the host, by an allow-list, and what of it is hidden again.

Trusted. Shown are the system's programs and libraries, this interpreter with its standard library and site-packages, and of this
package `inside`. Never a whole prefix: a virtual environment or conda may hold anything beside its libraries. Wherever else a copy
of this package lies in what is shown (another version, a checkout installed in place, its metadata), an empty folder covers it.
"""

from __future__ import annotations

import functools
import json
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import grader
from grader.errors import UsageError
from grader.imports import place

__all__ = ["Shown", "package_folder", "prefixes", "refuse_exposed", "shown"]

_SYSTEM = (
    "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec", "/usr/include", "/usr/share/zoneinfo",
    "/usr/sbin/ldconfig", "/usr/sbin/ldconfig.real", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
    "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives",
)  # fmt: skip
"""Of the system: what programs need to run. `/sbin` only where it is a link: `ctypes` asks `/sbin/ldconfig` for libraries."""
_OURS = "*dat450[-_]grader*"
_FEW = 64


@dataclass(frozen=True, slots=True)
class Shown:
    """The host's part of a box."""

    links: tuple[tuple[Path, str], ...]
    """Symbolic links and what they point to: the system's, and the interpreter's."""
    paths: tuple[Path, ...]
    """Folders and files that are shown read-only under their own names."""
    hidden: tuple[Path, ...]
    """Folders below those that are covered by empty ones, outermost only."""
    again: tuple[Path, ...]
    """What is shown on top of these: of this package what runs in the box, and the names and versions of its metadata."""

    def arguments(self) -> list[str]:
        """Bubblewrap's options."""
        words = ["--size", "65536", "--perms", "0755", "--tmpfs", "/usr"]
        for link, target in self.links:
            words += ["--symlink", target, str(link)]
        for path in self.paths:
            words += ["--ro-bind", str(path), str(path)]
        for path in self.hidden:
            words += ["--size", "65536", "--tmpfs", str(path)]
        for path in self.again:
            words += ["--ro-bind", str(path), str(path)]
        for path in (*self.hidden, Path("/usr")):
            words += ["--remount-ro", str(path)]
        return words

    def exposing(self, path: Path) -> Path | None:
        """The shown folder that `path` lies in, or is; None where no box can read it."""
        resolved = path.resolve()
        if any(resolved.is_relative_to(cover.resolve()) for cover in self.hidden):
            return None
        return next((folder for folder in self.paths if resolved.is_relative_to(folder.resolve())), None)


def package_folder() -> Path:
    """The folder of this package, of which only `__init__.py` and `inside/` are shown in a box."""
    return Path(grader.__file__).resolve().parent


def prefixes() -> list[Path]:
    """Folders outside of /usr that this interpreter and its libraries live in, outermost only; for helpers of ours, never for a box."""
    executable = Path(sys.executable)
    candidates = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    candidates += [*site.getsitepackages(), *_user_site()]
    candidates += [str(executable.resolve().parent.parent), str(executable.parent.parent)]
    found = {Path(text) for text in candidates if Path(text).is_dir() and text != "/"}
    return _outermost(path for path in found if not path.is_relative_to("/usr"))


def refuse_exposed(what: str, *places: Path) -> None:
    """Raise UsageError, saying what to do, where one of `places` lies in a folder that every box shows; `what`: what lies there."""
    for path in places:
        folder = shown().exposing(path)
        if folder is not None:
            raise UsageError(
                f"{what} ({path}) lies in {folder}, which the code of every submission can read: move it elsewhere, or use an"
                " interpreter that lives elsewhere (docs/sandbox.md, What a box shows)"
            )


@functools.cache
def shown() -> Shown:
    """What boxes show of this host to this interpreter; looked for once."""
    system = [Path(name) for name in _SYSTEM]
    links = {path: str(path.readlink()) for path in system if path.is_symlink() and path.parent.name in ("", "usr")}
    folders = [path for path in system if path.exists() and path not in links and path != Path("/sbin")]
    sites = [Path(text) for text in (*site.getsitepackages(), *_user_site()) if Path(text).is_dir()]
    folders += [path for path in (*_interpreter(), *sites) if path.exists()]
    paths = _outermost(folders)
    names = {program for program in _programs() if not any(program.is_relative_to(folder) for folder in paths)}
    links |= {program: str(program.resolve()) for program in names}
    # of an interpreter that a virtual environment was made of, the packages are not seen
    others = [found for folder in _standard_library() for found in folder.glob("*-packages")]
    ours = [found for folder in paths for found in _ours(folder)]
    hidden = [path for path in others if not any(_is_same(path, one) for one in sites)]
    for target in {found.resolve() for found in (*ours, *_checkouts(paths), *_own_checkout(sites))}:
        # under every name that it has in there
        inside = [folder for folder in paths if target.is_relative_to(folder.resolve())]
        hidden += [folder / target.relative_to(folder.resolve()) for folder in inside]
    package = package_folder()
    again = [package / "__init__.py", package / "inside"]
    # libraries list what is installed, and stumble over a name without metadata
    again += [path / name for path in hidden for name in ("METADATA", "PKG-INFO") if (path / name).is_file()]
    return Shown(tuple(links.items()), tuple(paths), tuple(_outermost([*hidden, package])), tuple(again))


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _outermost(paths: Iterator[Path] | list[Path]) -> list[Path]:
    """Without what lies below another one, under the names that they have."""
    found: list[Path] = []
    for path in sorted(set(paths), key=lambda path: (len(path.parts), str(path))):
        if not any(path.is_relative_to(outer) for outer in found):
            found.append(path)
    return found


def _user_site() -> list[str]:
    """The user's own site-packages, where this package was installed there: kernels have another home and do not see it else."""
    own = site.getusersitepackages()
    return [own] if place() == str(Path(own).resolve()) else []


def _standard_library() -> list[Path]:
    base = {"platbase": sys.base_exec_prefix, "installed_platbase": sys.base_exec_prefix}
    return [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("platstdlib", vars=base))]


def _programs() -> set[Path]:
    """The interpreter by the names that it is started with; as a link it finds its library from where that leads."""
    return {Path(name) for name in (sys.executable, getattr(sys, "_base_executable", sys.executable))}


def _interpreter() -> Iterator[Path]:
    """The interpreter's files: the program itself, standard library, headers, shared libraries."""
    yield from _standard_library()
    yield Path(sysconfig.get_path("include"))
    yield Path(sys.prefix, "pyvenv.cfg")
    yield from (program.resolve() for program in _programs())
    for folder in {Path(sys.base_prefix, "lib"), Path(sys.base_prefix, sys.platlibdir)}:
        libraries = list(folder.glob("*.so*"))
        # file by file where they are few (each one takes time); conda has a thousand, and little else there
        yield from libraries if len(libraries) <= _FEW else [folder]


def _ours(folder: Path) -> Iterator[Path]:
    """Copies of this package, whatever their version, and its metadata, in a shown folder of packages or of libraries."""
    for packages in (folder, *folder.glob("python*/*-packages")):
        yield from (found for found in (packages / "grader", *packages.glob(_OURS)) if found.is_dir())


def _checkouts(folders: list[Path]) -> Iterator[Path]:
    """Checkouts of ours that shown folders of packages point to: by .pth files, egg-links or the origin of an installation."""
    for packages in (deep for folder in folders for deep in (folder, *folder.glob("python*/*-packages"))):
        lines: list[str] = []
        for file in (*packages.glob("*.pth"), *packages.glob("*.egg-link")):
            with suppress(OSError, UnicodeDecodeError):
                lines += file.read_text().splitlines()
        for file in packages.glob(f"{_OURS}/direct_url.json"):
            with suppress(OSError, ValueError, KeyError):
                lines.append(unquote(urlsplit(json.loads(file.read_bytes())["url"]).path))
        yield from (Path(line) for line in lines if line.startswith("/") and Path(line, "grader", "inside").is_dir())


def _own_checkout(sites: list[Path]) -> list[Path]:
    """The checkout that this very package lies in; empty where it is installed."""
    folder = package_folder().parent
    return [] if any(_is_same(folder, one) for one in sites) else [folder]
