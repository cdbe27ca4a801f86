"""From what is known of a cycle to events and alarms. Same facts, same bytes: ids are computed."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from protocols.codec import Curve
from protocols.events import (
    NAMESPACE,
    Alarm,
    AlarmState,
    ClockInfo,
    EndedBy,
    Event,
    GapEvent,
    NameEvent,
    NameRef,
    Outcome,
    PassEvent,
    PassItem,
    PassKey,
    PassRef,
    Purpose,
    Severity,
    Window,
    event_id,
    from_us,
    pass_id,
)
from rules import ports
from rules.binding.counting import Count
from rules.binding.identity import Identity
from rules.binding.plan import NestPlan
from rules.binding.record import Record, curve_ref
from rules.binding.rows import Past

OffsetOf: TypeAlias = Callable[[int], str]
_UNSEEN: Final = Identity(None, Outcome.UNNAMED, ())
_OWN_CLOCK: Final = ClockInfo()


@dataclass(slots=True)
class Told:
    """What follows from one call, in order; gathered by all nests."""

    events: list[Event] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    reads: list[ports.ReadRequest] = field(default_factory=list)
    writes: list[ports.WriteRequest] = field(default_factory=list)

    def outcome(self) -> ports.Outcome:
        return ports.Outcome(
            tuple(self.events),
            tuple(self.curves),
            tuple(self.alarms),
            tuple(self.reads),
            tuple(self.writes),
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the port: the past of every polled tag, where to tell, and what time it is."""

    pasts: dict[str, Past]
    told: Told
    now_us: int


@dataclass(frozen=True, slots=True)
class Cycle:
    """When one cycle was and how sure that is. `from_us`, `to_us`: its window.

    `opened`: it was told of while it was running.
    """

    started_us: int | None
    ended_us: int
    from_us: int
    to_us: int
    seen_us: int
    ended_by: EndedBy = EndedBy.END
    clock: ClockInfo = _OWN_CLOCK
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Teller:
    """Speaks for one nest."""

    site: str
    plan: NestPlan
    offset_of: OffsetOf

    def pass_id(self, count: Count) -> uuid.UUID:
        return pass_id(self.site, self.plan.station, self.plan.nest, count.series, count.count)

    def tell_pass(
        self, count: Count, cycle: Cycle, record: Record, identity: Identity | None
    ) -> PassEvent:
        of = self.pass_id(count)
        opened = (event_id(of, "open", 0),) if cycle.opened else ()
        return PassEvent(
            **self._envelope(event_id(of, "pass", 0), cycle.ended_us, cycle),
            **self._place(count),
            replaces=opened,
            started=None if cycle.started_us is None else from_us(cycle.started_us),
            ended=from_us(cycle.ended_us),
            ended_by=cycle.ended_by,
            windows=self._windows(cycle.from_us, cycle.to_us),
            items=self._items(record, identity),
            feeds=record.feeds,
            values=record.values,
            curves=tuple(curve_ref(curve) for curve in record.curves),
            recipe=record.recipe,
            seats=dict(record.seats or {}),
            purpose=record.purpose,
            missing=record.missing,
        )

    def tell_open(self, count: Count, started_us: int, error_us: int) -> PassEvent:
        """The cycle is running; the closed pass replaces this."""
        clock = ClockInfo(error_us=error_us)
        cycle = Cycle(started_us, started_us, started_us, started_us, started_us, clock=clock)
        window = [Window(device=one, start=from_us(started_us)) for one in self.plan.devices]
        of = self.pass_id(count)
        return PassEvent(
            **self._envelope(event_id(of, "open", 0), started_us, cycle),
            **self._place(count),
            started=from_us(started_us),
            windows=tuple(window),
        )

    def tell_gap(
        self, count: Count, missed: tuple[int, int], cycle: Cycle, since: int | None
    ) -> GapEvent:
        """`since`: end of the last pass before."""
        first = self.pass_id(replace(count, count=missed[0]))
        return GapEvent(
            **self._envelope(event_id(first, "gap", 0), cycle.ended_us, cycle),
            station=self.plan.station,
            nest=self.plan.nest,
            series=count.series,
            from_count=missed[0],
            to_count=missed[1],
            from_at=None if since is None else from_us(since),
            to_at=from_us(cycle.ended_us),
            reason=f"the counter went from {missed[0] - 1} to {missed[1] + 1}",
        )

    def tell_late_name(self, of: uuid.UUID, ref: NameRef, at_us: int) -> NameEvent:
        """A read after the end names the item of a pass that had none."""
        cycle = Cycle(None, at_us, at_us, at_us, at_us)
        return NameEvent(
            **self._envelope(event_id(of, "name", 0), at_us, cycle),
            item=PassRef(pass_id=of),
            names=(ref,),
            reason="read after the end of the cycle",
        )

    def envelope(self, of: uuid.UUID, what: str, ordinal: int, cycle: Cycle) -> dict[str, Any]:
        """Of an event that a pass causes."""
        return self._envelope(event_id(of, what, ordinal), cycle.ended_us, cycle)

    def alarm(self, what: str, state: AlarmState, at_us: int, text: str) -> Alarm:
        key = f"{self.plan.id} {what}"
        of = uuid.uuid5(NAMESPACE, f"{self.site}\x1f{key}")
        return Alarm(
            id=event_id(of, state, at_us),
            key=key,
            state=state,
            severity=Severity.WARNING,
            at=from_us(at_us),
            text=text,
            source=self.plan.id,
        )

    def _envelope(self, own: uuid.UUID, at_us: int, cycle: Cycle) -> dict[str, Any]:
        return {
            "id": own,
            "site": self.site,
            "at": from_us(at_us),
            "zone_offset": self.offset_of(at_us),
            "clock": cycle.clock,
            "seen": from_us(cycle.seen_us),
            "by": f"binding {self.plan.rev}",
        }

    def _place(self, count: Count) -> dict[str, Any]:
        return {
            "pass_id": self.pass_id(count),
            "station": self.plan.station,
            "nest": self.plan.nest,
            "operation": self.plan.operation,
            "key": PassKey(
                series=count.series, count=count.count, raw=count.raw, modulus=self._modulus()
            ),
            "binding_rev": self.plan.rev,
        }

    def _modulus(self) -> int | None:
        key = self.plan.cycle.key
        return key.modulus if key else None

    def _windows(self, start_us: int, end_us: int) -> tuple[Window, ...]:
        return tuple(
            Window(device=device, start=from_us(start_us), end=from_us(end_us))
            for device in self.plan.devices
        )

    def _items(self, record: Record, identity: Identity | None) -> tuple[PassItem, ...]:
        """One item; none where the station neither names nor judges one."""
        if identity is None and self.plan.verdict is None:
            return ()
        known = identity or _UNSEEN
        return (
            PassItem(
                ref=known.ref,
                how=known.how,
                verdict=record.verdict,
                defects=record.defects,
                witnesses=known.witnesses,
            ),
        )


def watch_condition(
    raised: list[str], teller: Teller, told: Told, condition: tuple[str, str | None], at_us: int
) -> None:
    """Raise an alarm once when its text appears, clear it once when it is gone."""
    what, text = condition
    if text is not None and what not in raised:
        raised.append(what)
        told.alarms.append(teller.alarm(what, AlarmState.RAISED, at_us, text))
    elif text is None and what in raised:
        raised.remove(what)
        told.alarms.append(teller.alarm(what, AlarmState.CLEARED, at_us, f"{what}: over"))


def conditions_of(event: PassEvent) -> Sequence[tuple[str, str | None]]:
    """What a person should look at after a pass: (condition, text or None when it is fine).

    A master or set-up part lacks what is expected of a unit, so it says nothing of that.
    """
    count, item = event.key.count, event.items[0] if event.items else None
    conflict = item is not None and item.how is Outcome.CONFLICT
    lost = event.ended_by not in (None, EndedBy.END)
    always = (
        ("conflict", f"pass {count}: the witnesses differ" if conflict else None),
        ("missed end", f"pass {count}: {event.ended_by}" if lost else None),
    )
    if event.purpose is not Purpose.PRODUCTION:
        return always
    nameless = item is not None and item.ref is None and bool(item.witnesses)
    missing = f"pass {count} without {_list(event.missing)}" if event.missing else None
    return (
        ("unnamed", f"pass {count}: {item.how}" if nameless and item else None),
        *always,
        ("incomplete", missing),
    )


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown  # noqa: PLR2004
