"""Free ports of the loopback address, and who listens on one."""

import contextlib
import random
import socket
from contextlib import closing

import psutil

HOST = "127.0.0.1"


# Below what systems hand out by themselves (Linux from 32768, others from 49152): a port found here
# is not taken by somebody's next connection while its server still starts.
OURS = range(20_000, 32_000)
TRIES = 100


def free_port() -> int:
    """A port of ours that nobody listened on a moment ago, another one each time."""
    for port in random.SystemRandom().sample(OURS, TRIES):
        with closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise OSError(f"none of {TRIES} ports between {OURS.start} and {OURS.stop} is free")


def listens(pid: int, port: int) -> bool:
    """Whether this very process listens there; that somebody answers proves nothing."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:  # gone, or going: a process that has ended shows its sockets to nobody
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)
