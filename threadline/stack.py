"""The servers of a line on one machine: PostgreSQL and an MQTT broker in one directory.

Used by the demo, the tests and the bench. Whoever opens a stack may start more children in it;
they end with it. It never serves a plant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from threadline.broker import Broker, BrokerSettings, pick_broker
from threadline.children import Children
from threadline.postgres import Postgres


@dataclass(frozen=True)
class Stack:
    """Both servers, up, and the children they are among."""

    children: Children
    postgres: Postgres
    broker: Broker


@contextmanager
def open_stack(directory: Path, settings: BrokerSettings | None = None) -> Iterator[Stack]:
    """Clear what a killed run left in the directory, start both servers, end all in the end."""
    with Children(directory) as children:
        yield start_servers(children, settings)


def start_servers(children: Children, settings: BrokerSettings | None = None) -> Stack:
    """Both, among children that somebody else ends."""
    stack = Stack(children, Postgres(children), pick_broker(children, settings))
    stack.postgres.start()
    stack.broker.start()
    return stack
