"""Free ports of the loopback address, and whether something listens on one."""

import socket
from contextlib import closing

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that was free a moment ago; the system does not hand it out again soon."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
