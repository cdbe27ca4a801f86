"""The servers of a line on one machine: PostgreSQL, an MQTT broker, Kafka if frames go that way.

Used by the demo, the tests and the bench. Whoever opens a stack may start more children in it;
they end with it. It never serves a plant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from threadline import kafka_jars
from threadline.broker import Broker, BrokerSettings, Mosquitto, pick_broker
from threadline.children import Children, StackError
from threadline.kafka import Kafka
from threadline.postgres import Postgres
from threadline.route import Route


@dataclass(frozen=True)
class Stack:
    """The servers, up, and the children they are among. `kafka`: None on the direct route."""

    children: Children
    postgres: Postgres
    broker: Broker
    kafka: Kafka | None = None


@contextmanager
def open_stack(directory: Path, settings: BrokerSettings | None = None) -> Iterator[Stack]:
    """Clear what a killed run left in the directory, start both servers, end all in the end."""
    with Children(directory) as children:
        yield start_servers(children, settings)


def start_servers(
    children: Children, settings: BrokerSettings | None = None, route: Route = Route.DIRECT
) -> Stack:
    """All of them, among children that somebody else ends. StackError: one cannot run here."""
    if route is Route.KAFKA:
        _look_for_kafka()
    kafka = Kafka(children) if route is Route.KAFKA else None
    stack = Stack(children, Postgres(children), pick_broker(children, settings), kafka)
    stack.postgres.start()
    stack.broker.start()
    if kafka is not None:
        kafka.start()
    return stack


def _look_for_kafka() -> None:
    """Before anything starts: what the way through Kafka needs and this machine lacks."""
    without_broker = (
        None if Mosquitto.program() else "the gateway needs MQTT 5: apt-get install mosquitto"
    )
    lacking = [why for why in (kafka_jars.missing(), without_broker) if why is not None]
    if lacking:
        raise StackError("no way through Kafka here: " + "; ".join(lacking))
