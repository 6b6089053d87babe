"""A Dask cluster that is there already, by the address of its scheduler: `dask:tls://HOST:PORT`. Needs the extra `cluster`.

Trusted. Whoever reaches a Dask scheduler runs code as its owner, so that anything but this machine itself is reached over TLS with
certificates on both sides, unless it is allowed by hand.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import functools
import ipaddress
import math
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
import distributed

from grader import serialization
from grader.errors import EngineError, UsageError
from grader.grading.context import RunContext
from grader.records import SubmissionRun
from grader.runs.directory import RunInfo
from grader.runs.engines import Job, OnStage, Session, WorkerLostError
from grader.runs.engines.worker import Order, begin, end, identity, serve

__all__ = ["DaskEngine", "lend", "secured"]

_CONNECT_SECONDS = 30
_FIRST_WORKER_SECONDS = 120
_NAMED = 5


class DaskEngine:
    """The workers of a scheduler at an address."""

    def __init__(self, address: str, *, tls: Path | None = None, insecure_tcp: bool = False) -> None:
        """Take `tls://HOST:PORT` (`tls://` may be left out) or `tcp://HOST:PORT`; `tls` holds `cert.pem` and `key.pem`.

        Raises UsageError for an address that is not protected, or without certificates.
        """
        self.address = address if "://" in address else f"tls://{address}"
        self.security = secured(self.address, tls, insecure_tcp)
        self.name = f"the Dask cluster at {self.address}"

    @contextlib.contextmanager
    def open(self, info: RunInfo, context: RunContext, on_stage: OnStage) -> Iterator[Session]:
        """Connect, check all workers, lend them; the cluster itself goes on afterwards."""
        try:
            client = distributed.Client(
                self.address, security=self.security, timeout=_CONNECT_SECONDS, set_as_default=False
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise EngineError(f"no Dask scheduler answers at {self.address}: {_brief(error)}") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=_FIRST_WORKER_SECONDS)
            except TimeoutError as error:
                raise EngineError(
                    f"no worker has joined the scheduler at {self.address} within {_FIRST_WORKER_SECONDS} s; start some"
                    f" with `dask worker {self.address}`, see docs/clusters.md"
                ) from error
            slots = sum(client.nthreads().values())
            with lend(client, info, context, slots, on_stage) as session:
                yield session


def secured(address: str, tls: Path | None, insecure_tcp: bool) -> distributed.Security | None:
    """What protects the way to an address: certificates of a folder, or of Dask's own configuration. Raises UsageError."""
    scheme, host = urlsplit(address).scheme, urlsplit(address).hostname or ""
    if not host or scheme not in ("tls", "tcp"):
        raise UsageError(f"{address} is no address of a Dask scheduler: write dask:tls://HOST:PORT")
    if scheme == "tcp":
        if tls is not None:
            raise UsageError(f"{address} is not encrypted, so --tls has no use: write dask:tls://HOST:PORT")
        if not insecure_tcp and not _is_this_machine(host):
            raise UsageError(
                f"{address} is neither encrypted nor protected: anyone on the network could run code as you. Use tls:// with"
                " --tls DIR (docs/clusters.md shows how), or allow it with --insecure-tcp where nobody else has access"
            )
        return None
    if tls is None:
        if dask.config.get("distributed.comm.tls.ca-file", None) is None:
            raise UsageError(
                f"{address} needs certificates: give their folder with --tls DIR (made by `python -P -m"
                " grader.runs.engines.certificates DIR`), or set them in Dask's own configuration"
            )
        return distributed.Security(require_encryption=True)
    own, key, authority = tls / "cert.pem", tls / "key.pem", tls / "ca.pem"
    for path in (own, key):
        if not path.is_file():
            raise UsageError(f"{path} is not there; make it with `python -P -m grader.runs.engines.certificates {tls}`")
    return distributed.Security(
        require_encryption=True,
        tls_ca_file=str(authority if authority.is_file() else own),
        tls_client_cert=str(own),
        tls_client_key=str(key),
    )


def _is_this_machine(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class _Readiness(distributed.WorkerPlugin):
    """Opens the grader of a batch on workers that join late, and closes it on all at the end."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        """Begin; when that fails, the first submission here says why."""
        begin(self.order, functools.partial(_tell, self.order))

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        """End the zygote and the boxes of this batch."""
        end(self.order.token)


def _serve(order: Order, job: Job) -> str:
    """Run one submission on a worker."""
    return serve(order, job, functools.partial(_tell, order))


def _tell(order: Order, submission_id: str, stage: str) -> None:
    """Send a stage over the connection that this worker keeps to its scheduler."""
    with contextlib.suppress(Exception):  # a display of progress is never a reason to fail
        distributed.get_worker().log_event(_topic(order), [submission_id, stage])


def _topic(order: Order) -> str:
    return f"grader-stages-{order.token}"


@contextlib.contextmanager
def lend(
    client: distributed.Client,
    info: RunInfo,
    context: RunContext,
    slots: int,
    on_stage: OnStage,
    expect: Callable[[int], None] = lambda _left: None,
) -> Iterator[Session]:
    """Make sure that all workers there are fit, and lend them; `slots` is how many submissions they run at a time.

    Raises EngineError, naming each worker that is unfit and in what it differs.
    """
    order = Order(info, context.secret, identity(context), secrets.token_hex(8))
    _begin_everywhere(client, order)
    name = f"grader-{order.token}"
    executor: cf.Executor = client.get_executor(pure=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client.register_plugin(_Readiness(order), name=name)
        client.subscribe_topic(_topic(order), lambda event: on_stage(*event[1]))
        window = slots + math.ceil(slots / 16)  # hides the way there and back; more would wait on a worker that may die
        yield Session(functools.partial(_submit, executor, order), window, _read, expect)
    finally:
        executor.shutdown(wait=False)  # what still runs after a second Ctrl-C is cancelled, and its box ended below
        with contextlib.suppress(Exception):  # a scheduler that is gone needs no goodbye
            client.unsubscribe_topic(_topic(order))
        with contextlib.suppress(Exception):
            client.unregister_worker_plugin(name)


def _submit(executor: cf.Executor, order: Order, job: Job) -> cf.Future[Any]:
    try:
        return executor.submit(_serve, order, job)
    except Exception as error:
        raise EngineError(f"nothing can be sent to the Dask scheduler any more: {_brief(error)}") from error


def _read(future: cf.Future[Any]) -> SubmissionRun:
    """Decode an answer; that a submission's workers died again and again is said as a worker that was lost."""
    try:
        return serialization.loads(future.result(), SubmissionRun)
    except distributed.KilledWorker as error:
        raise WorkerLostError(_brief(error), repeatedly=True) from error


def _begin_everywhere(client: distributed.Client, order: Order) -> None:
    try:
        found: Mapping[str, Any] = client.run(begin, order, functools.partial(_tell, order), on_error="return")
    except Exception as error:  # e.g. no worker can even load what is sent
        raise EngineError(f"the workers cannot be asked what they are: {_brief(error)}") from error
    unfit = [(address, answer) for address, answer in found.items() if isinstance(answer, BaseException)]
    if not unfit:
        return
    lines = [f"{len(unfit)} of {len(found)} workers are unfit; nothing was run."]
    for address, why in unfit[:_NAMED]:
        lines.append(f"{address}: {why if isinstance(why, EngineError) else f'it cannot begin: {_brief(why)}'}")
    if len(unfit) > _NAMED:
        lines.append(f"and {len(unfit) - _NAMED} more")
    raise EngineError("\n".join(lines))


def _brief(error: object) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
