"""What is answered to decisions that the ledger has no part in. Pure."""

from cloud.admission import Later, Postponed, Refused, Statement
from cloud.receipting import Answer
from protocols.frames import Lane
from protocols.receipts import Said


def later(one: Postponed) -> Answer:
    return Answer(
        one.record.agent, one.epoch, one.lane, one.seq, one.digest, Said.LATER, one.why.value
    )


def rejected(one: Refused) -> Answer:
    header = one.header
    if header is None:
        raise ValueError("an unreadable header has nobody to answer")
    return Answer(
        one.record.agent,
        header.epoch,
        int(header.lane),
        header.seq,
        header.digest,
        Said.REJECTED,
        one.detail,
    )


def state(one: Statement) -> Answer:
    """Every hello is answered, also one of an agent that nobody added."""
    reason = None
    if one.agent is None:
        reason = Later.UNKNOWN_AGENT.value
    elif one.agent.is_set_aside:
        reason = Later.SET_ASIDE.value
    epoch = one.said.epoch
    return Answer(one.record.agent, epoch, int(Lane.NONE), 0, None, Said.STATE, reason)
