"""What happens when: per station, what its binding does in each bad case, in words for a person."""

from collections.abc import Mapping
from typing import NamedTuple

from rules.binding.plan import Compiled, EdgesPlan, ItemsPlan, MailboxPlan, NestPlan, WitnessPlan

SECOND_US = 1_000_000


class Case(NamedTuple):
    """`when` something happens, `then` this follows."""

    when: str
    then: str


def explain(compiled: Compiled) -> Mapping[str, tuple[Case, ...]]:
    """Station → its cases. Nests of a station do the same; the first one speaks for all."""
    first: dict[str, NestPlan] = {}
    for plan in compiled.nests:
        first.setdefault(plan.station, plan)
    return {station: explain_nest(plan) for station, plan in first.items()}


def explain_nest(plan: NestPlan) -> tuple[Case, ...]:
    items = plan.items
    cases = _names(items, plan.cycle) if items else [_no_names(plan)]
    cases += _mailbox(plan.cycle) if isinstance(plan.cycle, MailboxPlan) else []
    cases += _edges(plan, plan.cycle) if isinstance(plan.cycle, EdgesPlan) else []
    return (*cases, *_counter(plan), _link_down(plan))


def _names(items: ItemsPlan, cycle: MailboxPlan | EdgesPlan) -> list[Case]:
    first, *others = items.trust
    rest = ", then ".join(one.source for one in others)
    fallback = f"{rest} is asked; without one" if rest else "then"
    return [
        Case(
            "the serial is missing or is no serial",
            f"{fallback} the item is unnamed, and the pass says why; alarm. {_late(items)}",
        ),
        Case("the serial is stale", _stale(first, items, cycle)),
        Case(
            "the serial comes twice",
            "two reads of it in one cycle are one; "
            + (
                "in the next cycle it is not believed (same_again: reused)"
                if items.reuse_refused
                else "in the next cycle it is the next attempt on the same item"
            ),
        ),
        Case(
            "two witnesses differ",
            "the more trusted one names the item, both are kept, outcome conflict; alarm",
        ),
    ]


def _late(items: ItemsPlan) -> str:
    by_hand = "A name event binds it later"
    if not items.bind_later or not items.after_us:
        return f"{by_hand}."
    return (
        f"{by_hand}: the agent's own, if a read comes up to {_seconds(items.after_us)} after the"
        " end and is not the next cycle's."
    )


def _stale(first: WitnessPlan, items: ItemsPlan, cycle: MailboxPlan | EdgesPlan) -> str:
    if isinstance(cycle, MailboxPlan) and (first.read is None or first.read.read):
        if first.stamp is None:
            return (
                "it is read with the result, so it is taken for this cycle's: the PLC must clear"
                " it, or give the witness a stamp"
            )
        return "it is read with the result and counts only if its stamp changed since the last"
    since = "since the end of the last cycle"
    if items.before_us is not None:
        since = f"from {_seconds(items.before_us)} before the start"
    read = "its stamp changed" if first.stamp else "its text changed"
    return f"only what was read {since} counts: {read}. What merely stands there names nothing"


def _no_names(plan: NestPlan) -> Case:
    then = "the pass has no item" if plan.verdict is None else "the pass is of an unnamed item"
    if plan.emits:
        then = "nothing is moved or named, the pass says so in `missing`; alarm"
    return Case("the name cannot be read", then)


def _mailbox(cycle: MailboxPlan) -> list[Case]:
    return [
        Case(
            "the end is missed",
            f"it cannot be: the PLC holds the result until {cycle.taken} is written, which happens"
            " once the pass is safe on the agent's disk",
        ),
        Case(
            "the agent or the PLC restarts in mid-cycle",
            "the result is still offered afterwards: it is read, told once and acknowledged; one"
            " that was told before is only acknowledged",
        ),
        Case(
            "the result changes while it is read",
            "it is read again; if it never holds still, its counts are a gap, it is acknowledged"
            " so that the line runs on; alarm",
        ),
        Case(
            "taken gets lost",
            f"after {_seconds(cycle.retry_us)} with ready still set, the key is looked at: the same"
            " is acknowledged again, another one is the next result",
        ),
        Case(
            "the spool is full of events",
            "taken is not written: the PLC waits, nothing is lost; alarm",
        ),
    ]


def _edges(plan: NestPlan, cycle: EdgesPlan) -> list[Case]:
    ends = ["the next start"]
    if cycle.max_us is not None:
        ends.append(f"{_seconds(cycle.max_us)} after the start")
    cases = [
        Case(
            "the end is missed",
            f"{' or '.join(ends)} closes the pass: verdict unknown, what was read at the end is"
            " missing, values over time are uncertain; alarm",
        ),
        Case(
            "the agent restarts in mid-cycle",
            "the cycle goes on if the counter still shows it, its values over time uncertain; else"
            " it is closed as ended by restart, verdict unknown"
            if cycle.key
            else "the cycle is closed as ended by restart, verdict unknown",
        ),
        Case(
            "a cycle is shorter than two polls",
            "it can pass unseen; the counter shows it as a gap" if cycle.key else "it is not seen",
        ),
    ]
    if cycle.read_sets:
        cases.append(_lost_curve(plan, cycle))
    return cases


def _lost_curve(plan: NestPlan, cycle: EdgesPlan) -> Case:
    names = (
        ", ".join(dict.fromkeys(curve.name for curve in plan.curves)) or "what is read at the end"
    )
    guard = (
        "it is then missing, never another cycle's, because the counter is read before and after"
        if cycle.key_set
        else "without a counter on its device it may then be another cycle's"
    )
    return Case(
        "the PLC overwrites a curve before it was read",
        f"{names} is lost: there is no hand-shake here; {guard}. A mailbox would hold it",
    )


def _counter(plan: NestPlan) -> list[Case]:
    key = plan.cycle.key
    if key is None:
        return [
            Case(
                "a cycle is not seen",
                "nobody notices: there is no counter, the station is shown as unproven",
            )
        ]
    return [
        Case("the counter jumps", "a gap event names the counts without a pass"),
        Case(
            "the PLC restarts and counts anew",
            f"a counter that steps back is a new series; a wrap at {key.modulus} is not, if it"
            f" leaves out at most {key.jump_max} counts",
        ),
    ]


def _link_down(plan: NestPlan) -> Case:
    shared = (
        "to the cloud: everything waits in the spool, in order of its kind, and nothing changes"
    )
    if isinstance(plan.cycle, MailboxPlan):
        return Case("the link is down", f"{shared}. To the PLC: it waits with its result")
    unseen = "cycles meanwhile are gaps" if plan.cycle.key else "cycles meanwhile are not seen"
    return Case("the link is down", f"{shared}. To the PLC: {unseen}")


def _seconds(time_us: int) -> str:
    return f"{time_us / SECOND_US:g} s"
