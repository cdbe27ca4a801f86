"""All stations of one agent behind the port: rows to who wants them, answers to who asked.

Pure: time comes with every call, numbers of series from the caller. One task calls it, in order.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Final

from protocols.samples import SampleBatch
from rules.binding.counting import Draw, Tokens
from rules.binding.edges import EdgesNest
from rules.binding.mailbox import MailboxNest
from rules.binding.plan import Compiled, MailboxPlan, NestPlan
from rules.binding.rows import Interest, Past
from rules.binding.state import REVISION, BinderState, decode_state, encode_state
from rules.binding.telling import Call, OffsetOf, Teller, Told
from rules.ports import Outcome

Nest = MailboxNest | EdgesNest
_NEVER_US: Final = -(2**63)
_SLACK_US: Final = 100_000  # a clock set back by less changes nothing that is decided here


class StationBinder:
    """A Binder. `epoch`: of this process; `draw_series`: 64 random bits; `offset_of`: "+01:00"."""

    def __init__(
        self, compiled: Compiled, *, epoch: int, draw_series: Draw, offset_of: OffsetOf
    ) -> None:
        self._compiled = compiled
        self._nests: list[Nest] = []
        self._of_path: dict[str, list[Nest]] = defaultdict(list)
        self._pasts: dict[str, Past] = {}
        self._now_us = _NEVER_US
        for at, plan in enumerate(compiled.nests):
            # A request's number says whose it is: number modulo nests.
            tokens = Tokens(draw_series, count(at, len(compiled.nests)).__next__)
            teller = Teller(compiled.site, plan, offset_of)
            self._add(_nest(teller, plan, tokens, epoch), plan)
        self._interest = Interest(self._of_path)

    @property
    def read_sets(self) -> Mapping[str, tuple[str, ...]]:
        return self._compiled.read_sets

    def on_batch(self, batch: SampleBatch, now_us: int) -> Outcome:
        call = self._call(now_us)
        rows = self._interest.rows(batch)
        for path, row in rows:
            if path in self._pasts:
                self._pasts[path].add(row)
            for nest in self._of_path[path]:
                nest.on_row(path, row, call)
        paths = {path for path, _ in rows}
        for nest in self._wanting(paths):
            nest.settle(call)
        self._forget(paths)
        return call.told.outcome()

    def on_read(self, token: int, batches: tuple[SampleBatch, ...], now_us: int) -> Outcome:
        call = self._call(now_us)
        self._asker(token).on_read(token, batches, call)
        return call.told.outcome()

    def on_read_failed(self, token: int, reason: str, now_us: int) -> Outcome:  # noqa: ARG002 - the device's own log has the reason
        call = self._call(now_us)
        self._asker(token).on_read_failed(token, call)
        return call.told.outcome()

    def on_written(self, token: int, now_us: int) -> Outcome:
        call = self._call(now_us)
        self._asker(token).on_written(token, call)
        return call.told.outcome()

    def on_write_failed(self, token: int, reason: str, now_us: int) -> Outcome:  # noqa: ARG002 - as above
        call = self._call(now_us)
        self._asker(token).on_write_failed(token, call)
        return call.told.outcome()

    def on_tick(self, now_us: int) -> Outcome:
        call = self._call(now_us)
        for nest in self._nests:
            nest.on_tick(call)
        return call.told.outcome()

    def on_restart(self, from_us: int, to_us: int) -> Outcome:
        call = self._call(to_us)
        for nest in self._nests:
            nest.restart(from_us, call)
        return call.told.outcome()

    def on_fork(self) -> None:
        for nest in self._nests:
            nest.fork()

    def snapshot(self) -> bytes:
        state = BinderState(REVISION)
        for plan, nest in zip(self._compiled.nests, self._nests, strict=True):
            if isinstance(nest, MailboxNest):
                state.mailboxes[plan.id] = nest.state
            else:
                state.edges[plan.id] = nest.state
        state.pasts = {path: past.rows for path, past in self._pasts.items() if past.rows}
        return encode_state(state)

    def restore(self, state: bytes) -> None:
        """A nest whose kind of cycle changed starts afresh; a tag no longer polled is forgotten."""
        known = decode_state(state)
        for plan, nest in zip(self._compiled.nests, self._nests, strict=True):
            if isinstance(nest, MailboxNest):
                nest.state = known.mailboxes.get(plan.id, nest.state)
            else:
                nest.state = known.edges.get(plan.id, nest.state)
        for path, past in self._pasts.items():
            past.rows = list(known.pasts.get(path, ()))
            self._now_us = max(self._now_us, past.newest_us or _NEVER_US)

    def _add(self, nest: Nest, plan: NestPlan) -> None:
        self._nests.append(nest)
        wanted = {source.path for source in plan.sources if not source.read}
        if isinstance(plan.cycle, MailboxPlan):
            self._keep(wanted - {plan.cycle.ready.path})
            wanted |= {plan.cycle.taken}
        else:
            self._keep(wanted)
        for path in sorted(wanted):
            self._of_path[path].append(nest)

    def _keep(self, paths: Iterable[str]) -> None:
        for path in sorted(paths):
            self._pasts.setdefault(path, Past())

    def _wanting(self, paths: set[str]) -> list[Nest]:
        """In the order of the configuration, so that the same rows tell the same."""
        wanting = {id(nest) for path in paths for nest in self._of_path[path]}
        return [nest for nest in self._nests if id(nest) in wanting]

    def _forget(self, paths: set[str]) -> None:
        keep: dict[int, int] = {}
        for nest in self._wanting(paths):
            keep_us = nest.keep_from_us
            keep[id(nest)] = _NEVER_US if keep_us is None else keep_us
        for path in paths & self._pasts.keys():
            self._pasts[path].forget(min(keep[id(nest)] for nest in self._of_path[path]))

    def _asker(self, token: int) -> Nest:
        return self._nests[token % len(self._nests)]

    def _call(self, now_us: int) -> Call:
        call = Call(self._pasts, Told(), now_us)
        if now_us < self._now_us - _SLACK_US:
            for nest in self._nests:
                nest.on_clock_set_back(call)
        self._now_us = now_us
        return call


def _nest(teller: Teller, plan: NestPlan, tokens: Tokens, epoch: int) -> Nest:
    if isinstance(plan.cycle, MailboxPlan):
        return MailboxNest(teller, plan.cycle, tokens)
    return EdgesNest(teller, plan.cycle, tokens, epoch)
