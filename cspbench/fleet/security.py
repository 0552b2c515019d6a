"""Connection security: TLS with certificates on both sides, or plain TCP on this machine only.

Every client of a Dask scheduler can run code on every worker. The certificates are Dask's own
settings (``distributed.comm.tls.*``); docs/fleet.md shows how to make them.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from cspbench.errors import InputError

if TYPE_CHECKING:
    from distributed.security import Security

Role = Literal["client", "worker"]


def check_address(address: str, *, insecure: bool) -> str:
    """Return the address if it may be used.

    Raises:
        InputError: it is not an address of a scheduler, or it is plain TCP beyond this machine
            without ``insecure``.
    """
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or not port:
        raise InputError(
            f"{address!r} is not the address of a Dask scheduler; write tls://HOST:8786, or "
            "tcp://127.0.0.1:8786 on this machine"
        )
    if parts.scheme == "tcp" and not insecure and not is_loopback(parts.hostname):
        raise InputError(
            f"{address} is plain TCP beyond this machine: every program that reaches the scheduler "
            "can run any code on every board and forge every result; use tls:// with certificates "
            "(docs/fleet.md), or accept the risk with --insecure"
        )
    return address


def is_loopback(host: str) -> bool:
    """True if the host is this machine, without asking a name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening_host(address: str) -> str:
    """The address of this machine that a scheduler reaches; a worker listens on it alone.

    Raises:
        OSError: the scheduler's name is unknown, or no route leads to it.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    if is_loopback(host):
        return "127.0.0.1"
    family, kind, protocol, _, target = socket.getaddrinfo(
        host, parts.port, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)  # of a datagram socket: it chooses the route and sends nothing
        own: str = probe.getsockname()[0]
    return own


def security_for(address: str, role: Role) -> Security | None:
    """Read Dask's own settings for a TLS address; return None for plain TCP.

    Raises:
        InputError: a certificate is not set or cannot be read.
    """
    if not address.startswith("tls://"):
        return None
    from distributed.security import Security

    security = Security(require_encryption=True)
    files: dict[str, Any] = {
        "distributed.comm.tls.ca-file": security.tls_ca_file,
        f"distributed.comm.tls.{role}.cert": getattr(security, f"tls_{role}_cert"),
    }
    for name, value in files.items():
        if not value:
            variable = "DASK_" + name.replace(".", "__").replace("-", "_").upper()
            raise InputError(f"{address} needs a certificate: set Dask's {name} (or {variable})")
    key = getattr(security, f"tls_{role}_key")
    for path in filter(None, [*files.values(), key]):
        if "\n" not in path and not os.access(path, os.R_OK):
            raise InputError(f"{path}: the certificate or key cannot be read")
    return security
