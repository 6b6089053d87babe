#!/usr/bin/env bash
# Grade the bundled sample class from its Canvas archive to the class report. Extra arguments go to `grader grade`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
status=0
.venv/bin/grader grade data/sample_class/submissions.zip --roster data/sample_class/gradebook.csv \
  --title "Sample class" --cpu-seconds 100 --out "${RUN:-run}" "$@" || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || exit "$status"
.venv/bin/python data/sample_class/compare.py "${RUN:-run}"
