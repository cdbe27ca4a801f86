"""Random small plants: few names, holders and passes, so that everything meets everything.

Drawn from a seed and made smaller by leaving events out: ten times faster than drawing each choice.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

from protocols.events import Event
from tests.support.trace import at, event, holder, lot, name, pid, slot

Said: TypeAlias = tuple[str, dict[str, Any]]
STATIONS = ("L1/ST010", "L1/ST020")


def world(seed: int, most: int = 16) -> list[Event]:
    """Up to `most` events in an order that has nothing to do with their times."""
    plant = _Plant(Random(seed))  # noqa: S311 - a plant, not a secret
    return [plant.event(index) for index in range(plant.random.randint(1, most))]


def smallest(events: Sequence[Event], fails: Callable[[Sequence[Event]], bool]) -> list[Event]:
    """A part that still fails, from which nothing can be left out."""
    left = list(events)
    shrunk = True
    while shrunk:
        shrunk = False
        for index in range(len(left)):
            without = left[:index] + left[index + 1 :]
            if fails(without):
                left, shrunk = without, True
                break
    return left


class _Plant:
    def __init__(self, random: Random) -> None:
        self.random = random
        self._makers: tuple[Callable[[], Said], ...] = (
            self._name,
            self._name,
            self._pass,
            self._pass,
            self._pass,
            self._mount,
            self._mount,
            self._load,
            self._unmount,
            self._assemble,
            self._make,
            self._state,
            self._state,
            self._gap,
            self._void,
        )

    def event(self, index: int) -> Event:
        kind, fields = self.random.choice(self._makers)()
        minutes = fields.pop("minutes", self._minutes())
        corrects = kind == "void" or self._once_in(8)
        replaces = [f"e{self.random.randrange(16)}"] if corrects else []
        said = self.random.choice([None, at(1), at(500)])
        return event(f"e{index}", kind, minutes, replaces=replaces, said_at=said, **fields)

    def _once_in(self, n: int) -> bool:
        return self.random.randrange(n) == 0

    def _minutes(self) -> int:
        return self.random.randint(0, 12)

    def _serial(self) -> dict[str, Any]:
        ref = name(self.random.choice("ABC"))
        return {**ref, "at": at(self._minutes())} if self._once_in(6) else ref

    def _lot(self) -> dict[str, Any]:
        return lot(self.random.choice("XY"))

    def _slot(self) -> dict[str, Any]:
        return slot(self.random.randint(1, 4), station=self.random.choice(STATIONS))

    def _thing(self) -> dict[str, Any]:
        return self.random.choice((self._serial, self._serial, self._lot, self._slot))()

    def _carrier(self) -> dict[str, Any]:
        return holder(self.random.choice(("carrier/7", "carrier/7", "carrier/8")))

    def _feeder(self) -> str:
        return self.random.choice(("feeder/F", "magazine/P"))

    def _qty(self) -> dict[str, str] | None:
        return self.random.choice((None, {"value": "1"}, {"value": "2"}, {"value": "5"}))

    def _name(self) -> Said:
        choices = (None, None, self._thing(), self._carrier())
        subject = self.random.choice(choices)
        least = 0 if subject else 1
        return "name", {
            "item": subject,
            "names": [self._serial() for _ in range(self.random.randint(least, 2))],
            "ends": [self._serial()] if self._once_in(3) else [],
            "same_as": self._thing() if self._once_in(4) else None,
            "material": self.random.choice((None, "M1", "M2")),
            "purpose": self.random.choice(("production", "master")),
        }

    def _pass(self) -> Said:
        station, minutes = self.random.choice(STATIONS), self._minutes()
        count = self.random.randint(1, 4)
        places = self.random.choice((("1",), ("1",), ("1", "2"), ("1", "1")))
        return "pass", {
            "minutes": minutes,
            "pass_id": str(pid(count, station=station)),
            "station": station,
            "operation": station,
            "key": {"series": "0000000000000007", "count": count, "modulus": 65536},
            "started": at(minutes),
            "ended": self.random.choice((None, at(minutes + 1), at(minutes + 3))),
            "items": [self._pass_item(place) for place in places],
            "feeds": [self._feed() for _ in range(self.random.randint(0, 2))],
            "seats": self.random.choice(({}, {}, {"tool": "seat/T"})),
            "values": [{"name": "torque", "num": self.random.choice((1.5, 2.5))}],
            "about": self._serial() if self._once_in(5) else None,
        }

    def _pass_item(self, place: str) -> dict[str, Any]:
        ref = self.random.choice((None, self._thing(), self._thing(), self._carrier()))
        return {"ref": ref, "how": "bound" if ref else "unnamed", "place": place}

    def _feed(self) -> dict[str, Any]:
        qty = self._qty()
        return {"holder": self._feeder(), **({} if qty is None else {"qty": qty})}

    def _mount(self) -> Said:
        """A lot on a feeder, mostly early, so that passes meet it."""
        what = self._lot() if not self._once_in(4) else self._thing()
        return "move", {
            "minutes": self.random.randint(0, 6),
            "what": what,
            "to": holder(self._feeder()),
            "qty": self._qty(),
            "material": "M3" if self._once_in(5) else None,
        }

    def _load(self) -> Said:
        what = self.random.choice((self._thing(), self._thing(), self._carrier()))
        to = self.random.choice((self._carrier(), holder("seat/T"), holder(self._feeder())))
        source = self.random.choice((None, None, self._carrier(), holder(self._feeder())))
        return "move", {"what": what, "to": to, "from_": source, "qty": self._qty()}

    def _unmount(self) -> Said:
        what = self.random.choice((self._lot(), self._serial()))
        return "move", {"what": what, "from_": holder(self._feeder()), "qty": self._qty()}

    def _assemble(self) -> Said:
        way = self.random.choice(("to", "to", "from_"))
        return "move", {"what": self._thing(), way: self._thing(), "pass_": str(pid(1))}

    def _make(self) -> Said:
        given = self.random.choice((self._thing(), self._carrier()))
        made = self.random.choice((self._lot(), self._serial()))
        return "make", {"run": "r", "inputs": [{"ref": given}], "outputs": [{"ref": made}]}

    def _state(self) -> Said:
        words: tuple[list[str], ...] = ([], ["scrapped"], ["scrapped"], ["blocked"])
        things = [self.random.choice((self._thing(), self._carrier())) for _ in range(2)]
        return "state", {
            "items": things[: self.random.randint(0, 2)],
            "pass_": str(pid(self.random.randint(1, 4))) if self._once_in(4) else None,
            "set_": self.random.choice(words),
            "unset": self.random.choice(words),
        }

    def _gap(self) -> Said:
        low = self.random.randint(1, 4)
        return "gap", {
            "station": self.random.choice(STATIONS),
            "series": "0000000000000007",
            "from_count": low,
            "to_count": low + self.random.randint(0, 2),
        }

    def _void(self) -> Said:
        return "void", {}
