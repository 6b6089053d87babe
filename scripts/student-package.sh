#!/usr/bin/env bash
# Build the self-check for students, a wheel of a few modules of this checkout, into a folder (the current one without a name), and say
# where it lies. PYTHON chooses the interpreter. docs/student-package.md
set -euo pipefail
out=$(realpath "${1:-.}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
[ -n "${PYTHON:-}" ] || [ ! -x .venv/bin/python ] || python=.venv/bin/python
"$python" -m pip wheel -q --disable-pip-version-check --no-deps -w "$out" ./packages/dat450-check
ls "$out"/dat450_check-*.whl
