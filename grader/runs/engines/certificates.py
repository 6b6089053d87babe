"""Certificates for a Dask cluster of one's own: `python -P -m grader.runs.engines.certificates DIR`. Needs the extra `cluster`.

Trusted. One self-signed certificate serves scheduler, workers and grader; whoever holds its key is let in, so that the folder is
closed to everybody else (mode 0700) and belongs on a file system that all machines of the cluster see.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import distributed

from grader.errors import UsageError
from grader.runs.directory import write_atomically

__all__ = ["write_certificates"]


def write_certificates(folder: Path) -> tuple[Path, Path]:
    """Write `cert.pem` and `key.pem` (valid for a year); returns their paths. Raises UsageError when they are there."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    if certificate.exists() or key.exists():
        raise UsageError(f"{folder} holds certificates already; remove them, or choose another folder")
    security = distributed.Security.temporary()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(key, security.tls_client_key, 0o600)
    write_atomically(certificate, security.tls_client_cert, 0o600)
    return certificate, key


def main() -> None:
    """Write certificates and say how to start a cluster with them."""
    parser = argparse.ArgumentParser(description="Make certificates for a Dask cluster of your own.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder to write, on a file system all machines see")
    try:
        certificate, key = write_certificates(parser.parse_args().folder)
    except UsageError as error:
        parser.error(str(error))
    words = f"--tls-ca-file {certificate} --tls-cert {certificate} --tls-key {key}"
    print("export PYTHONSAFEPATH=1  # so that nothing is imported from the current folder")
    print(f"dask scheduler --protocol tls --no-dashboard {words}")
    print(f"dask worker tls://HOST:8786 --nthreads 4 {words}")
    print(f"grader grade ... --executor dask:tls://HOST:8786 --tls {certificate.parent}")


if __name__ == "__main__":
    main()
