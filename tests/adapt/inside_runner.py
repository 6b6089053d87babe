"""Runs a piece of a student's notebook in a fresh process with the shims installed; prints records and result as JSON.

Called as a script with one JSON request on standard input: `code`, `config`, and `before` (code that runs before `install`).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback


def main() -> None:
    request = json.load(sys.stdin)
    records: list[list[str]] = []
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(request["before"], "<before>", "exec"), {})
    started = time.perf_counter()
    importlib.import_module("grader.inside.shims.colab").install(
        lambda *record: records.append(list(record)), request["config"]
    )
    seconds = time.perf_counter() - started
    error = None
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        exec(compile(request["code"], "<student>", "exec"), names)
    except BaseException:
        error = traceback.format_exc()
    sys.stdout = stdout
    json.dump({"records": records, "error": error, "seconds": seconds, "result": names.get("result")}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
