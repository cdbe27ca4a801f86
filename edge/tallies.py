"""What a spool holds, counted per stream and state, so that nobody has to count entries.

Kept in memory beside the entries by whoever keeps those. It never decides anything.
"""

from edge.entries import NOTHING, Entry, Holding, State, Stream, Tally


class Tallies:
    """Streams in order of their first entry; floors are the keeper's to find."""

    def __init__(self) -> None:
        self._heads: dict[Stream, int] = {}
        self._floors: dict[Stream, int] = {}
        self._counts: dict[Stream, dict[State, Tally]] = {}

    def open(self, stream: Stream, head: int = 0) -> None:
        self._heads[stream] = max(head, self._heads.get(stream, 0))
        self._counts.setdefault(stream, {})

    def count(self, stream: Stream, state: State, tally: Tally) -> None:
        counts = self._counts[stream]
        old = counts.get(state, NOTHING)
        counts[state] = Tally(
            old.frames + tally.frames, old.rows + tally.rows, old.size + tally.size
        )

    def set_floor(self, stream: Stream, floor: int | None) -> None:
        """Lowest seq; None: the stream holds nothing."""
        if floor is None:
            self._floors.pop(stream, None)
        else:
            self._floors[stream] = floor

    def lower_floor(self, stream: Stream, seq: int) -> None:
        self._floors[stream] = min(self._floors.get(stream, seq), seq)

    def forget(self, stream: Stream) -> None:
        for kept in (self._heads, self._floors, self._counts):
            kept.pop(stream, None)

    def add(self, entry: Entry) -> None:
        stream, seq = entry.key.stream, entry.key.seq
        self.open(stream, seq)
        self.lower_floor(stream, seq)
        self._move(entry, None, entry.state)

    def mark(self, entry: Entry, state: State) -> None:
        self._move(entry, entry.state, state)

    def remove(self, entry: Entry) -> None:
        self._move(entry, entry.state, None)

    def holdings(self) -> tuple[Holding, ...]:
        return tuple(self._holding(stream) for stream in self._heads)

    def head(self, stream: Stream) -> int:
        return self._heads[stream]

    def _holding(self, stream: Stream) -> Holding:
        head = self._heads[stream]
        counts = {state: tally for state, tally in self._counts[stream].items() if tally.frames}
        return Holding(stream, self._floors.get(stream, head + 1), head, counts)

    def _move(self, entry: Entry, old: State | None, new: State | None) -> None:
        counts = self._counts[entry.key.stream]
        if old is not None:
            counts[old] = counts.get(old, NOTHING).minus(entry.rows, entry.size)
        if new is not None:
            counts[new] = counts.get(new, NOTHING).plus(entry.rows, entry.size)
