"""What is read on request when a cycle ended, and whether it is still that cycle's.

Good only if the counter stood still around it: else the next cycle may have overwritten it. Asked
again a few times, then given up; forgotten by a restart and asked anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocols.events import EndedBy
from protocols.samples import SampleBatch
from rules.binding.counting import Tokens
from rules.binding.cycling import Closing
from rules.binding.evidence import read_rows
from rules.binding.plan import EdgesPlan
from rules.binding.rows import Reading
from rules.binding.telling import Call
from rules.ports import ReadRequest

READ_AGAIN_US: Final = 500_000
READS_MAX: Final = 3


@dataclass(slots=True)
class _Late:
    """The read of one cycle."""

    token: int | None = None
    tries: int = 0
    not_before_us: int = 0
    over: bool = False
    rows: Mapping[str, Reading] | None = None
    raw: int | None = None


class LateReads:
    """Of one nest, by the time of the end."""

    def __init__(self, cycle: EdgesPlan, tokens: Tokens) -> None:
        self._cycle = cycle
        self._tokens = tokens
        self._reads: dict[int, _Late] = {}

    def clear(self) -> None:
        self._reads.clear()

    def ask(self, closings: Sequence[Closing], call: Call) -> None:
        """Once for each cycle whose end was seen."""
        if not self._cycle.read_sets:
            return
        for closing in closings:
            if closing.ended_by is EndedBy.END and self._is_still_there(closing):
                self._ask(self._reads.setdefault(closing.ended_us, _Late()), call)

    def on_read(self, token: int, batches: tuple[SampleBatch, ...]) -> None:
        late = self._asked(token)
        if late is None:
            return
        late.token = None
        rows = read_rows(batches)
        if self._cycle.key_set is None:
            late.rows, late.over = rows[0], True
        else:
            self._take_guarded(late, rows)

    def on_read_failed(self, token: int, now_us: int) -> None:
        late = self._asked(token)
        if late is not None:
            late.token, late.not_before_us = None, now_us + READ_AGAIN_US
            late.over = late.tries >= READS_MAX

    def is_under_way(self, closing: Closing) -> bool:
        late = self._reads.get(closing.ended_us)
        return late is not None and not late.over

    def take(self, closing: Closing, raw: int | None) -> Mapping[str, Reading]:
        """What was read, if the counter says that it is this cycle's; it is forgotten here."""
        late = self._reads.pop(closing.ended_us, None)
        key = self._cycle.key
        if late is None or late.rows is None:
            return {}
        if self._cycle.key_set is None or key is None:
            return late.rows
        mine = late.raw is not None and raw is not None and late.raw % key.modulus == raw
        return late.rows if mine else {}

    def _is_still_there(self, closing: Closing) -> bool:
        """After a restart only the counter can tell."""
        return self._cycle.key_set is not None or not closing.cycle.restarted

    def _asked(self, token: int) -> _Late | None:
        return next((one for one in self._reads.values() if one.token == token), None)

    def _ask(self, late: _Late, call: Call) -> None:
        if late.over or late.token is not None or call.now_us < late.not_before_us:
            return
        guard = (self._cycle.key_set,) if self._cycle.key_set else ()
        late.tries += 1
        late.token = self._tokens.request()
        call.told.reads.append(ReadRequest(late.token, (*guard, *self._cycle.read_sets, *guard)))

    def _take_guarded(self, late: _Late, rows: list[dict[str, Reading]]) -> None:
        path = self._cycle.key.count.path if self._cycle.key else ""
        first, last = rows[0].get(path), rows[-1].get(path)
        whole = first and last and first.usable and last.usable and first.value == last.value
        late.over = bool(whole) or late.tries >= READS_MAX
        if whole and first is not None:
            late.rows, late.raw = rows[1], int(first.value)
