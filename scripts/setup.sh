#!/usr/bin/env bash
# Prepare a checkout: bubblewrap (where it may be installed), a virtual environment in .venv, pinned packages. Run by the
# other scripts; does nothing that is done already. PYTHON chooses the interpreter (3.11 or later).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\033[1m%s\033[0m\n' "setup: $*" >&2; }

apt_install() {
  command -v apt-get >/dev/null || return 1
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
    root=(sudo -n)
  fi
  "${root[@]}" apt-get update -qq >/dev/null 2>&1 || true
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

if [ "$(uname -s)" = Linux ] && ! command -v bwrap >/dev/null; then
  say "installing bubblewrap, which builds the box that submissions run in"
  apt_install bubblewrap || say "bubblewrap could not be installed here; ask your administrator for it (apt install bubblewrap).
  Until then 'grader check' runs your own notebook as an ordinary program, and 'grader grade' needs --sandbox none."
fi

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
fi
[ -n "$python" ] || { say "Python 3.11 or later is needed (set PYTHON to its path)"; exit 2; }

if [ ! -x .venv/bin/python ]; then
  say "making the virtual environment .venv"
  "$python" -m venv .venv 2>/dev/null || { rm -rf .venv; apt_install python3-venv && "$python" -m venv .venv; } \
    || { rm -rf .venv; say "no virtual environment can be made: install python3-venv"; exit 2; }
fi

stamp=.venv/installed.sha256
wanted=$(cat constraints.txt pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  say "installing packages (torch first, so that no other build of it is chosen)"
  .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
  .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
  # JupyterLab brings it; jsonschema, and so nbformat, would compile its grammars at every start of the grader, for a second
  .venv/bin/python -m pip uninstall -q -y rfc3987-syntax
  if ! compgen -G '.venv/lib/*/site-packages/torch/__pycache__/*.pyc' >/dev/null; then  # pip was told not to
    say "compiling packages, so that every kernel starts fast"
    .venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
  fi
  printf '%s\n' "$wanted" >"$stamp"
fi
