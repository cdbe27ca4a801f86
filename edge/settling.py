"""Receipts come to their entries: what each word does, and when everything is new again.

Rule 1: an entry changes only if its own digest is named; the first word of a receipt counts.
Rule 2: another store has nothing of ours, another log nothing that was only logged.
Rule 3: what is logged and long passed by its lane's stored head is asked for again: what became of
it was said once, and that receipt, or the frame, is lost.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from edge.book import PAGE, Book
from edge.entries import Entry, Key, State, Stream
from protocols.frames import Lane
from protocols.receipts import Receipt, Run, Said

_STORE_ID: Final = "store_id"
_LOG_GEN: Final = "log_gen"
_LANES: Final = frozenset(int(lane) for lane in Lane)
OF_AGENT: Final = ("unknown_agent", "set_aside")  # reasons of `later` that are not of one frame
_SINGLE: Final = "single copy"
ANSWER_US: Final = 1_000_000  # receipts of a lane come in order but for two ingests at once
_SETTLING: Final = (Said.LOGGED, Said.STORED, Said.REJECTED, Said.FORKED, Said.LATER)


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a receipt, or of time.

    Attributes:
        taken: entries that were stored: the cloud takes this agent.
        later: entries that are new again, to be tried later.
        renewed: entries sent long ago are new again: look from the beginning.
        forked: an epoch was answered `forked` for the first time.
        let_go: something not yet stored is gone and named: report everything once.
    """

    taken: tuple[Key, ...] = ()
    later: tuple[Key, ...] = ()
    renewed: bool = False
    forked: bool = False
    let_go: bool = False


def settle(book: Book, receipt: Receipt, now_us: int) -> Settled:
    """Take a receipt in. What it names and the spool does not hold is ignored."""
    renewed = _compare(book, receipt, now_us)
    said: dict[Said, list[Entry]] = {kind: [] for kind in Said}
    once: set[Key] = set()
    for run in receipt.runs:
        named = [entry for entry in _named(book, run) if entry.key not in once]
        once.update(entry.key for entry in named)
        said[run.kind] += named
        renewed |= _hear(book, run, named, now_us)
    if said[Said.STORED]:
        book.doubt(doubted=False)
    said[Said.LATER] = [one for one in said[Said.LATER] if one.state is not State.STORED]
    _mark(book, said[Said.LOGGED], (State.NEW,), State.LOGGED, now_us)
    _mark(book, said[Said.STORED], (State.NEW, State.LOGGED), State.STORED, now_us)
    _mark(book, said[Said.LATER], (State.LOGGED,), State.NEW, now_us)
    forked = book.append_again(said[Said.FORKED], now_us)
    for kind in _SETTLING:
        book.counts[f"frames_{kind}"] += len(said[kind])
    book.counts["rows_rejected"] += sum(entry.rows for entry in said[Said.REJECTED])
    taken = (entry.key for entry in said[Said.STORED])
    later = (entry.key for entry in said[Said.LATER])
    return Settled(tuple(taken), tuple(later), renewed, forked)


def _hear(book: Book, run: Run, named: Sequence[Entry], now_us: int) -> bool:
    """What a run says beside the states of its entries. True: others are new again."""
    reason = run.reason or ""
    if run.kind is Said.STATE:
        return _ask_again(book, run, now_us)
    if run.kind is Said.REJECTED:
        book.quarantine(named, f"rejected: {run.reason or 'no reason'}", now_us)
    if run.kind is Said.LOGGED and reason.startswith(_SINGLE):
        book.count_single_copy(sum(entry.state is State.NEW for entry in named))
    if named and run.kind is Said.LATER and reason.startswith(OF_AGENT):
        book.doubt(doubted=True)
    return False


def _compare(book: Book, receipt: Receipt, now_us: int) -> bool:
    """True: the receipt's store or log is another than before, and entries are renewed."""
    if receipt.runs and all(run.kind is Said.LOGGED for run in receipt.runs):
        return False  # a gateway knows neither
    renew: set[State] = set()
    if receipt.store_id and _changed(book, _STORE_ID, receipt.store_id):
        renew |= {State.LOGGED, State.STORED}
        book.counts["store_changes"] += 1
    if receipt.log_gen is not None and _is_raised(book, receipt.log_gen, anew=bool(renew)):
        renew |= {State.LOGGED}
        book.counts["log_changes"] += 1
    if renew:
        book.store.renew(renew, now_us)
    return bool(renew)


def _ask_again(book: Book, run: Run, now_us: int) -> bool:
    """`run.first` is the highest seq of its lane that is stored. True: entries are new again."""
    if run.lane not in _LANES:
        return False
    stream = Stream(run.epoch, Lane(run.lane))
    passed = book.store.passed(stream, run.first, now_us - ANSWER_US, PAGE)
    book.store.mark(passed, State.NEW, now_us)
    book.counts["frames_asked_again"] += len(passed)
    return bool(passed)


def _changed(book: Book, name: str, value: str) -> bool:
    before = book.store.note(name)
    if before != value:
        book.store.set_note(name, value)
    return before not in (None, value)


def _is_raised(book: Book, log_gen: int, *, anew: bool) -> bool:
    """Several ingests may answer around a raise in any order: an older word changes nothing.

    `anew`: another store counts for itself, maybe from lower on.
    """
    before = book.store.note(_LOG_GEN)
    if before is None or anew or log_gen > int(before):
        book.store.set_note(_LOG_GEN, str(log_gen))
    return before is not None and log_gen > int(before)


def _named(book: Book, run: Run) -> list[Entry]:
    """Entries that the run names by their own digest."""
    if run.lane not in _LANES:
        return []
    found = []
    for seq, digest in enumerate(run.digests, run.first):
        entry = book.store.find(Key(run.epoch, Lane(run.lane), seq))
        if entry is not None and entry.digest == digest:
            found.append(entry)
        else:
            book.counts["receipts_ignored"] += 1
    return found


def _mark(
    book: Book, entries: Iterable[Entry], states: Collection[State], state: State, now_us: int
) -> None:
    book.store.mark([entry for entry in entries if entry.state in states], state, now_us)
