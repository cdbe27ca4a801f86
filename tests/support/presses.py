"""Shifts of a press drawn from a number: how its PLC works, what goes wrong, and what was true.

Whatever is silent, late, restarted, bad or never polled at all, the truth of each cycle is kept
beside it, so that a test can hold every pass against it.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, Final

from protocols.events import EndedBy, GapEvent, NameEvent, NameRef, PassEvent, PassRef, Verdict
from protocols.events import to_us as us_of
from protocols.samples import SampleBatch
from rules.binding.config import BindingConfig
from tests.support.binding import compiled, written_stations
from tests.support.plc import POLL_US, Bench
from tests.support.stations import PRESS, bench, dmc

DEVICES: Final = frozenset({"p20", "scanner20"})
MODULUS: Final = 32768
CYCLES: Final = 20


@dataclass(frozen=True)
class Manner:
    """How this PLC and its reader work.

    `pulses`: the start bit falls long before the end. `clears`: the reader's text is emptied
    between two parts. `fresh`: as in the configuration.
    """

    counts_at_end: bool
    counted: bool = True
    pulses: bool = False
    clears: bool = True
    fresh: Any = "20"
    first: int = 101

    def config(self) -> BindingConfig:
        written = copy.deepcopy(_written())
        press = written["stations"][1] | {"nests": ["a"]}
        written["stations"] = [press]
        if not self.counted:
            del press["cycle"]["key"]
        if self.fresh != "cycle":
            press["items"]["fresh"] = {"before_s": int(self.fresh), "after_s": 5}
        else:
            press["items"]["fresh"] = "cycle"
        return BindingConfig.model_validate(written)


@dataclass(frozen=True)
class Truth:
    """What one cycle truly was, and when it ran."""

    number: int
    scan: str | None
    result: int
    force: float
    from_us: int
    to_us: int


@dataclass
class Trouble:
    """How the agent is disturbed, drawn anew before every poll."""

    random: Random
    level: float = 1.0
    clock_steps: bool = False
    polls: int = 0
    silent: dict[str, int] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)
    held: dict[str, list[tuple[int, SampleBatch]]] = field(default_factory=dict)

    def poll(self, made: Bench, times: int) -> None:
        for _ in range(times):
            self._disturb(made)
            made.now_us += POLL_US
            self.polls += 1
            for device in sorted(made.devices):
                self._poll_device(made, device)
            self._deliver(made)
            made.take(made.binder.on_tick(made.now_us + 2_000))

    def rest(self, made: Bench) -> None:
        """Nothing goes wrong any more."""
        made.bad = set()
        self.silent, self.behind, self.held = {}, {}, {}
        self.level = 0.0
        self.poll(made, 40)
        made.idle(90)

    def _poll_device(self, made: Bench, device: str) -> None:
        if self.silent.get(device, 0) > 0:
            self.silent[device] -= 1
            return
        paths = _POLLED[device]
        due = self.polls + self.behind.get(device, 0)
        self.held.setdefault(device, []).append((due, made.batch(paths)))

    def _deliver(self, made: Bench) -> None:
        """In the order of each device; one device may be behind the others."""
        for waiting in self.held.values():
            while waiting and waiting[0][0] <= self.polls:
                made.take(made.binder.on_batch(waiting.pop(0)[1], made.now_us + 1_000))

    def _disturb(self, made: Bench) -> None:
        chance = self.random.random() / self.level if self.level else 1.0
        draw = self.random
        if chance < 0.012:
            for device in draw.choice([["p20"], ["scanner20"], ["p20", "scanner20"]]):
                self.silent[device] = draw.choice([1, 3, 6, 15, 40, 90, 300])
        elif chance < 0.02:
            self.held.clear()
            made.restart(draw.choice([0.3, 1.0, 4.0, 30.0]), epoch=draw.randrange(99))
        elif chance < 0.03:
            made.bad = set(draw.sample(_BAD, draw.randrange(1, 4)))
        elif chance < 0.06:
            made.bad = set()
        elif chance < 0.065:
            self.behind["scanner20"] = draw.choice([0, 1, 5])
        elif chance < 0.066 and self.clock_steps:
            made.now_us += draw.choice([-60_000_000, -5_000_000, -250_000, 5_000_000])


_BAD: Final = ["p20.a.cycle_no", "p20.a.done", "p20.a.clamped", "p20.oil_temp", "scanner20.a"]
_POLLED: Final = {
    "p20": [*_BAD[:4], "p20.a.result", "p20.a.nok", "p20.a.program"],
    "scanner20": ["scanner20.a"],
}


@cache
def _written() -> Any:
    return written_stations()


def manner_of(random: Random, **fixed: Any) -> Manner:
    drawn: dict[str, Any] = {
        "counts_at_end": random.random() < 0.5,
        "counted": random.random() < 0.8,
        "pulses": random.random() < 0.3,
        "clears": random.random() < 0.7,
        "fresh": random.choice(["20", "20", "60", "cycle"]),
        "first": random.choice([101, 101, MODULUS - 8]),
    }
    return Manner(**drawn | fixed)


def shift(seed: int, **fixed: Any) -> tuple[Bench, Manner, dict[int, Truth]]:
    """A shift, its press and the truth by number (unwrapped)."""
    random = Random(seed)  # noqa: S311 - a seeded run of a test
    manner = manner_of(random, **fixed)
    made = bench(plan=compiled(manner.config()), devices=DEVICES)
    trouble = Trouble(random, random.choice([0.3, 1.0, 3.0]))
    trouble.clock_steps = manner.counted and random.random() < 0.3
    made.set({"p20.a.cycle_no": (manner.first - 1) % MODULUS})
    made.poll(3)
    truths = {}
    for number in range(manner.first, manner.first + CYCLES):
        truths[number] = _cycle(made, (trouble, manner), number)
    trouble.rest(made)
    return made, manner, truths


def _cycle(made: Bench, of: tuple[Trouble, Manner], number: int) -> Truth:
    trouble, manner = of
    random = trouble.random
    quick = manner.counted and random.random() < 0.05  # nobody can see it
    length = 0 if quick else 1
    scan = random.choice([dmc(number)] * 6 + ["NOREAD", None])
    result, force = random.choice([1, 2]), 8.0 + (number % 400) / 100
    early = random.random() < 0.8
    if early:
        _scan(made, scan)
        trouble.poll(made, length * random.choice([1, 2, 5, 30]))
    from_us = made.now_us
    counted = number - 1 if manner.counts_at_end else number
    made.set({"p20.a.cycle_no": counted % MODULUS, "p20.a.clamped": True, "p20.a.done": False})
    trouble.poll(made, length * random.randrange(2, 12))
    if not early:
        _scan(made, scan)
        trouble.poll(made, length * random.randrange(2, 5))
    if manner.pulses:
        made.set({"p20.a.clamped": False})
        trouble.poll(made, length * random.randrange(2, 12))
    _press(made, number, result, force)
    trouble.poll(made, length * random.randrange(3, 8))
    made.set({"p20.a.clamped": False})
    if manner.clears:
        made.set({"scanner20.a": ""})
    if manner.pulses:
        made.set({"p20.a.done": False})
    to_us = made.now_us
    trouble.poll(made, random.choice([3, 5, 8, 60]))
    return Truth(number, scan, result, force, from_us, to_us)


def _scan(made: Bench, scan: str | None) -> None:
    if scan is not None:
        made.set({"scanner20.a": scan})


def _press(made: Bench, number: int, result: int, force: float) -> None:
    made.set(
        {
            "p20.a.curve.way": [9.0, 10.0, 11.0, 12.0, 13.0, 0.0, 0.0, 0.0],
            "p20.a.curve.force": [1.0, 5.0, force, 7.0, 20.0, 0.0, 0.0, 0.0],
            "p20.a.curve.n": 5,
            "p20.a.result": result,
            "p20.a.nok": 0 if result == 1 else 77,
            "p20.a.done": True,
            "p20.a.cycle_no": number % MODULUS,
        }
    )


def gaps(made: Bench) -> list[tuple[int, int]]:
    return [(one.from_count, one.to_count) for one in made.events if isinstance(one, GapEvent)]


def check(made: Bench, manner: Manner, truths: Mapping[int, Truth]) -> None:
    """Every pass holds only its own, and counted = passes + gaps."""
    passes = made.passes(PRESS, "a")
    if manner.counted and passes and passes[0].key.count < manner.first:  # told after a wrap
        truths = {number - MODULUS: one for number, one in truths.items()}
    if manner.counted:
        _check_counts(made, passes, truths)
    names = {
        event.item.pass_id: event.names[0]
        for event in made.events
        if isinstance(event, NameEvent) and isinstance(event.item, PassRef)
    }
    for event in passes:
        truth = truths[event.key.count] if manner.counted else _by_time(event, truths)
        ref = event.items[0].ref or names.get(event.pass_id)
        if isinstance(ref, NameRef):
            assert truth is not None, (event.key, ref)
            assert ref.value == f"{truth.number:012}", (event.key.count, ref, event.items[0].how)
        if truth is not None:
            _check_record(event, truth)


def _check_counts(made: Bench, passes: list[PassEvent], truths: Mapping[int, Truth]) -> None:
    counts = [event.key.count for event in passes]
    missed = [count for first, last in gaps(made) for count in range(first, last + 1)]
    assert len({event.key.series for event in passes}) <= 1
    assert len(counts) == len(set(counts)), counts
    assert len(missed) == len(set(missed)), missed
    told = sorted({*counts, *missed})
    assert told == list(range(told[0], told[0] + len(told))), (counts, missed)
    assert set(told) <= set(truths)
    assert len({event.id for event in made.events}) == len(made.events)


def _by_time(event: PassEvent, truths: Mapping[int, Truth]) -> Truth | None:
    """Where nothing counts, the time says which cycle it was. None: it is of two, or of none."""
    ended = event.ended if event.started is None or event.ended_by is EndedBy.END else None
    found = set()
    if event.started is not None:
        found.add(_at(us_of(event.started), truths))
    if ended is not None:
        found.add(_ended_at(us_of(ended), truths))
    return truths[number] if len(found) == 1 and (number := found.pop()) is not None else None


def _at(time_us: int, truths: Mapping[int, Truth]) -> int | None:
    return next(
        (one.number for one in truths.values() if one.from_us < time_us <= one.to_us + POLL_US),
        None,
    )


def _ended_at(time_us: int, truths: Mapping[int, Truth]) -> int | None:
    """An end that was BAD for a while is seen late, but before the next cycle begins."""
    begun = [one.number for one in truths.values() if one.from_us < time_us]
    return max(begun, default=None)


def _check_record(event: PassEvent, truth: Truth) -> None:
    verdict = event.items[0].verdict
    if event.ended_by is EndedBy.END:
        assert verdict in (Verdict.PASS if truth.result == 1 else Verdict.FAIL, Verdict.UNKNOWN)
    else:
        assert verdict is Verdict.UNKNOWN
    forces = [value.num for value in event.values if value.name == "force_max"]
    assert forces in ([], [truth.force]), (event.key.count, forces, truth.force)
