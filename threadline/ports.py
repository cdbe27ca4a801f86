"""Free ports of the loopback address, and who listens on one."""

import socket
from contextlib import closing

import psutil

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that was free a moment ago; the system does not hand it out again soon."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def listens(pid: int, port: int) -> bool:
    """Whether this very process listens there; that somebody answers proves nothing."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:  # gone, or going: a process that has ended shows its sockets to nobody
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)
