"""The wires to one kernel: jupyter_client's manager and client and nbclient's reader, opened and closed as one.

Trusted. The manager gets its kernel from our provisioner; nbclient gets manager and client ready-made, and starts or ends nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from grader.sandbox.channels import BoundedClient
from grader.sandbox.contract import BoxSpec, Limits
from grader.sandbox.outputs import CellClient
from grader.sandbox.pool import KernelPool
from grader.sandbox.provisioner import BoxProvisioner

__all__ = ["Connection"]


class Connection:
    """Manager, provisioner, client and nbclient of one kernel. `client` and `notebook` are there once it was opened."""

    client: BoundedClient
    """Shell and output channel, bounded."""
    notebook: CellClient
    """nbclient on that client."""

    def __init__(self, pool: KernelPool, spec: BoxSpec, limits: Limits) -> None:
        self._limits = limits
        self._opened = False
        self.manager = AsyncKernelManager(kernel_name="box", client_factory=BoundedClient)
        kind = KernelSpec(argv=["box"], display_name="box", language="python", interrupt_mode="signal")
        self.manager._kernel_spec = kind
        self.provisioner = BoxProvisioner(kernel_id="box", kernel_spec=kind, parent=self.manager)
        self.provisioner.prepare(pool, spec, limits)
        self.manager.provisioner = self.provisioner

    async def open(self, flooded: Callable[[], None]) -> None:
        """Start the kernel and connect; `flooded` is called when it has sent more than it may. Raises SandboxError."""
        await self.manager.start_kernel()
        self.client = client = self.manager.client()
        client.bound(self._limits)
        client.start_channels(shell=True, iopub=True, stdin=False, hb=False, control=False)  # noqa: S604 - a channel's name
        client.output.exceeded = flooded
        self.notebook = CellClient(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("")]), km=self.manager, kernel_name="box",
            timeout=None, allow_errors=True, coalesce_streams=False, record_timing=False, store_widget_state=False,
        )  # fmt: skip
        self.notebook.kc, self.notebook.ended = client, self.provisioner.ended
        self._opened = True

    async def close(self) -> None:
        """Close every socket and context, end the kernel, remove its traces."""
        if self._opened:
            for channel in (self.client.shell_channel, self.client.iopub_channel):
                if channel.socket is not None:
                    channel.socket.disable_monitor()
            self.client.stop_channels()
            self.client.context.destroy(linger=0)
        self.manager.context.destroy(linger=0)  # the manager's own, for its control socket
        self.manager._close_control_socket()
        self.manager.context.destroy(linger=0)
        await self.provisioner.cleanup()
