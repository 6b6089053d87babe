#!/usr/bin/env bash
# The checks of the project: format, lint, types, tests.
#   test.sh          the fast tier: what is not marked slow or serial; minutes
#   test.sh --all    everything, what measures load or needs all cores alone at the end; under an hour
#   test.sh ARGS...  other arguments go to pytest, which then runs without xdist
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export OMP_NUM_THREADS=1
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
pytest=(.venv/bin/python -m pytest)
beside=(-n 3 --dist worksteal)  # much of the time is waiting
if [ $# -eq 0 ]; then
  exec "${pytest[@]}" "${beside[@]}" -m "not slow and not serial"
fi
if [ "$*" != --all ]; then
  exec "${pytest[@]}" "$@"
fi
if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then  # for the tests in JupyterLab
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 \
    || echo "test.sh: chromium could not be installed; the tests in JupyterLab are skipped" >&2
fi
status=0
"${pytest[@]}" "${beside[@]}" -m "not serial" || status=$?
"${pytest[@]}" -m serial || status=$?
exit "$status"
