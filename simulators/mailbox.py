"""The hand-shake of a mailbox as a PLC does it. Pure: a table of states and signals.

    PLC    writes data and count, then ready := true          offer
    agent  reads, makes it safe, writes taken := true
    PLC    sees taken in its next scan: ready := false and taken := false, both in one scan
    PLC    waits `handshake_timeout_s` for taken, then holds production, and waits on

The PLC never overwrites data that was not taken, and resets taken itself: an agent only ever writes
true. A taken that comes while nothing is offered is reset and noted.
"""

from enum import StrEnum


class State(StrEnum):
    IDLE = "idle"
    OFFERED = "offered"
    HELD = "held"


class Signal(StrEnum):
    OFFER = "offer"
    TAKEN = "taken"
    LATE = "late"


class Effect(StrEnum):
    """What the PLC does on a transition."""

    RAISE_READY = "raise_ready"
    RESET_BOTH = "reset_both"
    HOLD_PRODUCTION = "hold_production"
    RESET_TAKEN = "reset_taken"


TABLE: dict[tuple[State, Signal], tuple[State, Effect]] = {
    (State.IDLE, Signal.OFFER): (State.OFFERED, Effect.RAISE_READY),
    (State.IDLE, Signal.TAKEN): (State.IDLE, Effect.RESET_TAKEN),
    (State.OFFERED, Signal.TAKEN): (State.IDLE, Effect.RESET_BOTH),
    (State.OFFERED, Signal.LATE): (State.HELD, Effect.HOLD_PRODUCTION),
    (State.HELD, Signal.TAKEN): (State.IDLE, Effect.RESET_BOTH),
}


def step(state: State, signal: Signal) -> tuple[State, Effect]:
    """Returns the next state and what to do.

    Raises:
        ValueError: The line's program broke the protocol, for example offered twice.
    """
    found = TABLE.get((state, signal))
    if found is None:
        raise ValueError(f"a mailbox that is {state} cannot be told {signal}")
    return found
