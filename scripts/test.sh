#!/usr/bin/env bash
# All checks of the project: format, lint, types, tests. Arguments go to pytest, which then runs alone; without any, two halves of
# about the same length run side by side, since most tests use one core.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export OMP_NUM_THREADS=1
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
if [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
beside=(tests/bundles tests/corpus tests/finetuning tests/sandbox)
log=$(mktemp)
.venv/bin/python -m pytest "${beside[@]}" >"$log" 2>&1 &
other=$!
trap 'kill "$other" 2>/dev/null || true; rm -f "$log"' EXIT
status=0
.venv/bin/python -m pytest "${beside[@]/#/--ignore=}" || status=$?
wait "$other" || status=$?
echo "== ${beside[*]}"
cat "$log"
exit "$status"
