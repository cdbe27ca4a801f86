"""The binder of this agent's stations, from the compiled binding. Builds, decides nothing."""

from collections.abc import Callable

from protocols.errors import ConfigError, Problem, Rejected
from protocols.samples import SampleBatch
from rules.binding.plan import Compiled
from rules.ports import Binder, Outcome


def make_binder(compiled: Compiled, draw_64: Callable[[], int]) -> Binder:
    """ConfigError: this build binds no stations."""
    if compiled.nests:
        why = f"are not bound by this build ({draw_64.__name__})"
        raise ConfigError([Problem("stations", "", why, "Leave them out.")])
    return Unbound()


class Unbound:
    """The binder of an agent without stations: nothing follows from its samples."""

    read_sets: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - the port's name, always empty

    def on_batch(self, batch: SampleBatch, now_us: int) -> Outcome:  # noqa: ARG002 - the port's
        return Outcome()

    def on_read(self, token: int, batches: tuple[SampleBatch, ...], now_us: int) -> Outcome:  # noqa: ARG002
        return Outcome()

    def on_read_failed(self, token: int, reason: str, now_us: int) -> Outcome:  # noqa: ARG002
        return Outcome()

    def on_written(self, token: int, now_us: int) -> Outcome:  # noqa: ARG002 - the port's
        return Outcome()

    def on_write_failed(self, token: int, reason: str, now_us: int) -> Outcome:  # noqa: ARG002
        return Outcome()

    def on_tick(self, now_us: int) -> Outcome:  # noqa: ARG002 - the port's
        return Outcome()

    def on_restart(self, from_us: int, to_us: int) -> Outcome:  # noqa: ARG002 - the port's
        return Outcome()

    def on_fork(self) -> None:
        """No series to renew."""

    def snapshot(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None:
        if state:
            raise Rejected("stations were bound before and are not configured now")
