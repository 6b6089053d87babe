"""A real JupyterLab in a headless Chromium, for tests that look at what people see there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
_SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}
_OPEN = """async name => {
    const panel = await jupyterapp.commands.execute('docmanager:open', {path: name, factory: 'Notebook'});
    await panel.context.ready;
    await panel.revealed;
    return panel.content.model.toJSON();
}"""


def chromium() -> str:
    """Where the browser is; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium here (apt install chromium), so what JupyterLab shows is not looked at")
    return found


@dataclass
class Lab:
    """JupyterLab with its folder, seen through one page of a browser."""

    folder: Path
    """Notebooks that are put here can be opened."""
    page: Any
    """Playwright's page."""
    faults: list[str] = field(default_factory=list)
    """What JupyterLab's own code did not catch, but for what waited for something that was closed."""

    def open(self, name: str) -> dict[str, Any]:
        """Open a notebook as a click on it does; returns it as JupyterLab has it."""
        return self.page.evaluate(_OPEN, name)

    def close(self) -> None:
        """Close what is open, unsaved."""
        self.page.evaluate("jupyterapp.shell.currentWidget.dispose()")

    def dialogs(self) -> list[str]:
        """What stands in dialogs and error messages."""
        return self.page.locator(".jp-Dialog, .jp-NotificationCenter .Toastify__toast--error").all_inner_texts()

    def theme(self, name: str) -> None:
        """Change to `JupyterLab Light` or `JupyterLab Dark`."""
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", name)


@contextlib.contextmanager
def jupyterlab(folder: Path, *, kernels: bool = False, width: int = 1100, height: int = 1400) -> Iterator[Lab]:
    """Start JupyterLab over `folder/notebooks`; without `kernels`, what is opened gets a process that does nothing."""
    from playwright.sync_api import sync_playwright

    browser = chromium()
    notebooks, home = folder / "notebooks", folder / "jupyter"
    notebooks.mkdir(parents=True)
    (home / "settings").mkdir(parents=True)
    (home / "settings" / "overrides.json").write_text(json.dumps(_SETTINGS))
    if not kernels:
        (home / "data" / "kernels" / "python3").mkdir(parents=True)
        spec = {
            "argv": ["sh", "-c", "while kill -0 $PPID; do sleep 1; done"],
            "display_name": "Python 3",
            "language": "python",
        }
        (home / "data" / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    places = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
        [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser", "--port=0",
            f"--ServerApp.root_dir={notebooks}", "--IdentityProvider.token=", "--LabApp.extension_manager=readonly",
            f"--LabApp.app_settings_dir={home / 'settings'}", f"--LabApp.workspaces_dir={home / 'workspaces'}",
        ],
        env={**os.environ, **{f"JUPYTER_{key}": str(home / name) for key, name in places.items()},
             "JUPYTER_PREFER_ENV_PATH": "0", "IPYTHONDIR": str(home / "ipython")},
        stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
      )  # fmt: skip
    try:
        url = _address(home / "runtime", server)
        with (
            sync_playwright() as playwright,
            playwright.chromium.launch(executable_path=browser, args=list(FLAGS)) as opened,
        ):
            page = opened.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(120_000)
            lab = Lab(notebooks, page)
            page.on("pageerror", lambda error: lab.faults.append(str(error)) if str(error) != "Disposed" else None)
            page.goto(f"{url}lab")
            page.wait_for_function("window.jupyterapp?.started")
            page.evaluate("jupyterapp.started")
            page.evaluate("jupyterapp.restored")
            yield lab
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _address(runtime: Path, server: subprocess.Popen[bytes]) -> str:
    """Where the server answers; it writes that into its runtime folder."""
    while server.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError, urllib.error.URLError, ConnectionError):
                url: str = json.loads(path.read_text())["url"]
                urllib.request.urlopen(f"{url}api", timeout=30).close()
                return url
        time.sleep(0.1)
    raise RuntimeError("JupyterLab did not start")
