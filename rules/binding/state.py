"""The state of all stations as compact JSON: what a crash keeps of them."""

from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter, ValidationError

from protocols.errors import Rejected
from rules.binding.cycling import EdgesState
from rules.binding.handover import MailboxState
from rules.binding.rows import Reading

REVISION: Final = 1


@dataclass(slots=True)
class BinderState:
    """By nest, and the past of each polled tag. Nests that are not configured are left out."""

    revision: int
    mailboxes: dict[str, MailboxState] = field(default_factory=dict)
    edges: dict[str, EdgesState] = field(default_factory=dict)
    pasts: dict[str, list[Reading]] = field(default_factory=dict)


_STATE: Final = TypeAdapter(BinderState)


def encode_state(state: BinderState) -> bytes:
    return _STATE.dump_json(state, exclude_defaults=True)


def decode_state(raw: bytes) -> BinderState:
    """Rejected: not a state, or of a revision that is not known."""
    try:
        state = _STATE.validate_json(raw)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Rejected(f"not a state of the binding: {where}") from error
    if state.revision != REVISION:
        raise Rejected(f"a state of revision {state.revision}, not {REVISION}")
    return state
