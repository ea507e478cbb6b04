"""Where a server listens, and what is wrong when it cannot be reached."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from mlcalc.ground.errors import Use

from ...errors import ConfigError
from ..errors import ConnectionFailedError

DEFAULT_PREFIX = "/tmp/ipi_"  # noqa: S108 - i-PI's and ASE's own; the owner of the socket is looked at
_LONGEST_PATH = 107  # bytes of a unix socket's path, in Linux


@dataclass(frozen=True)
class Address:
    """A unix socket, or a host and a port."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"the unix socket {self.path}" if self.path else f"{self.host}:{self.port}"

    def connect(self, timeout_s: float) -> socket.socket:
        """A connected socket; OSError where nobody listens (yet), ConnectionFailedError where nobody ever will."""
        if self.path is not None:
            return self._connect_unix(self.path, timeout_s)
        link = socket.create_connection((self.host, self.port), timeout=timeout_s)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, name):  # a peer that vanished with its machine is noticed within two minutes
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return link

    def _connect_unix(self, path: Path, timeout_s: float) -> socket.socket:
        found = path.stat()
        if not stat.S_ISSOCK(found.st_mode):
            raise ConnectionFailedError(
                f"{path} is no socket", setting="unix", value=str(path), remedies=["give the name of the server's"]
            )
        if found.st_uid not in (os.getuid(), 0):
            raise ConnectionFailedError(
                f"{path} belongs to user {found.st_uid}, not to you ({os.getuid()}): somebody else's server has this "
                "name",
                setting="unix",
                value=str(path),
                remedies=["choose another one in the input and here"],
            )
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(timeout_s)
            link.connect(str(path))
        except BaseException:
            link.close()
            raise
        return link

    def why(self, error: OSError) -> str:
        """What a failure to connect means, and what to do."""
        if isinstance(error, FileNotFoundError):
            return f"there is no {self.path}: is the server running, with this address (and sockets prefix)?"
        if isinstance(error, ConnectionRefusedError) and self.path:
            return f"{self.path} is there but nobody listens: left behind by a server that died; remove it"
        if isinstance(error, ConnectionRefusedError):
            return f"nobody listens at {self}: is the server running, with this port?"
        if isinstance(error, PermissionError):
            return f"{self}: permission denied"
        return f"{self}: {error.strerror or error}"


def server_address(
    unix: str | os.PathLike[str] | None, host: str, port: int | None, prefix: str, allow_remote: bool
) -> Address:
    """The address; ConfigError for both kinds or none, a path that is too long, or a host beyond this machine."""
    if (unix is None) == (port is None):
        raise ConfigError(
            "give either the name of a unix socket or a port, not both",
            setting="unix",
            value=unix,
            remedies=[Use("unix", "driver"), Use("port", 31415, "with its host where that is not localhost")],
        )
    if unix is not None:
        if not isinstance(unix, str | os.PathLike) or "\0" in os.fsdecode(unix):
            raise ConfigError(
                f"unix is {unix!r}: it must be the name or path of a unix socket, a text", setting="unix", value=unix
            )
        name = os.fsdecode(unix)
        path = Path(name) if "/" in name else Path(prefix + name)
        if not name or len(os.fsencode(path)) > _LONGEST_PATH:
            raise ConfigError(
                f"the path {str(path)!r} of the unix socket must have 1 to {_LONGEST_PATH} bytes",
                setting="unix",
                value=name,
                limit=_LONGEST_PATH,
            )
        return Address(path)
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise ConfigError(
            f"port is {port!r}: it must be a whole number from 1 to 65535", setting="port", value=port, limit=65535
        )
    if not isinstance(host, str) or not host:
        raise ConfigError(
            f"host is {host!r}: it must be the name or address of a machine, a text", setting="host", value=host
        )
    if not allow_remote and not is_loopback(host):
        raise ConfigError(
            f"host {host!r} is another machine, and i-PI's protocol has no password and no encryption",
            setting="host",
            value=host,
            remedies=[
                f"connect through ssh (ssh -L {port}:localhost:{port} {host}) and use localhost",
                Use("allow_remote", True),
            ],
        )
    return Address(None, host, port)


def is_loopback(host: str) -> bool:
    """Whether every address of this name is on this machine only; ConfigError for a name that is unknown."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # ValueError: not even the form of a name
        raise ConfigError(
            f"host {host!r} is unknown ({error})", setting="host", value=host, remedies=["check its name"]
        ) from None
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)
