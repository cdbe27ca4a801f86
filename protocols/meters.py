"""What a process counts and shows: each metric is declared once, as a line of a class.

Every process has a registry of its own; several classes of meters may stand in it.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, Self, TypeVar, overload

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from protocols.probes import Page

M = TypeVar("M")


class Meter(Generic[M]):
    """A metric of `kind` with what it means; `more` goes to the kind, as buckets or states.

    In an instance of its class the metric itself stands in its place.
    """

    def __init__(
        self, kind: Callable[..., M], name: str, meaning: str, *labels: str, **more: Any
    ) -> None:
        self.make: Final[Callable[[CollectorRegistry], M]] = lambda registry: kind(
            name, meaning, labels, registry=registry, **more
        )

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> M: ...
    def __get__(self, instance: object, owner: type) -> object:
        return self


class Meters:
    """Makes all that its class declares, so that each is shown before it first counts."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        for name, declared in vars(type(self)).items():
            if isinstance(declared, Meter):
                setattr(self, name, declared.make(self.registry))

    def page(self) -> Page:
        """All of the registry, as Prometheus reads it."""
        return Page(generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4)
