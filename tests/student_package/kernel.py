"""Runs cells in a Jupyter kernel of the interpreter that runs this file, by its own jupyter_client, and prints what they show as JSON.

`python kernel.py FOLDER < cells.json`: a list of sources in, a list of texts out. Needs nothing of the project's, and no newer
jupyter_client than Colab's 6.1.12.
"""

from __future__ import annotations

import json
import sys
from queue import Empty

from jupyter_client.manager import KernelManager

SECONDS = 300.0


def shown(client: object, source: str) -> str:
    """Run a cell; what it prints, displays and raises, as text."""
    request = client.execute(source)  # type: ignore[attr-defined]
    texts = []
    while True:
        message = client.get_iopub_msg(timeout=SECONDS)  # type: ignore[attr-defined]
        if message["parent_header"].get("msg_id") != request:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            return "\n".join(texts)
        if kind == "stream":
            texts.append(content["text"])
        elif kind == "error":
            texts.append("\n".join(content["traceback"]))
        elif kind in ("display_data", "execute_result"):
            data = content["data"]
            texts.append(f"html {'text/html' in data}\n{data['text/plain']}")


def main() -> None:
    """Run all cells in one kernel."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=sys.argv[1])
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=SECONDS)
        print(json.dumps([shown(client, source) for source in json.load(sys.stdin)]))
    except Empty:
        sys.exit(f"the kernel said nothing for {SECONDS:g} s")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main()
