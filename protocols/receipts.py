"""Receipts: what a later hop says of frames.

An entry of the spool changes state only if its own digest is the one named.

JSON on `tl/1/<agent>/receipts`; 64-bit numbers are 16 hex digits (identities) or decimal strings.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from protocols.errors import Rejected

RECEIPT_FRAMES_MAX: Final = 256
RECEIPT_BYTES_MAX: Final = 64 * 1024


class Said(StrEnum):
    """LOGGED is the gateway's; all others are ingest's."""

    LOGGED = "logged"
    STORED = "stored"
    REJECTED = "rejected"
    FORKED = "forked"
    LATER = "later"
    STATE = "state"


def _from_hex(value: Any) -> Any:
    return int(value, 16) if isinstance(value, str) else value


Hex64 = Annotated[
    int,
    BeforeValidator(_from_hex),
    Field(ge=0, lt=2**64),
    PlainSerializer(lambda value: f"{value:016x}", return_type=str),
]


class Run(BaseModel):
    """Frames from `first` on, one per digest, of one epoch and lane."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    epoch: Hex64
    lane: int = Field(ge=0, le=255)
    kind: Said
    first: int = Field(ge=0, lt=2**63, alias="from")
    digests: tuple[Hex64, ...] = Field(default=(), max_length=RECEIPT_FRAMES_MAX)
    reason: str | None = None


class Receipt(BaseModel):
    """`store_id` names the database's line of life, `log_gen` Kafka's log (None: no Kafka)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    agent: str
    store_id: str | None
    log_gen: int | None = None
    runs: tuple[Run, ...] = Field(max_length=RECEIPT_FRAMES_MAX)


def pages(runs: Iterable[Run], runs_max: int) -> Iterator[tuple[Run, ...]]:
    """What fits one receipt each, in order; at least one run."""
    page: list[Run] = []
    frames = 0
    for run in runs:
        if page and (len(page) == runs_max or frames + len(run.digests) > RECEIPT_FRAMES_MAX):
            yield tuple(page)
            page, frames = [], 0
        page.append(run)
        frames += len(run.digests)
    if page:
        yield tuple(page)


def encode_receipt(receipt: Receipt) -> bytes:
    return receipt.model_dump_json(by_alias=True).encode()


def decode_receipt(data: bytes) -> Receipt:
    """Rejected: not a receipt, or above the limits."""
    if len(data) > RECEIPT_BYTES_MAX:
        raise Rejected(f"receipt of {len(data)} bytes, at most {RECEIPT_BYTES_MAX}")
    try:
        receipt = Receipt.model_validate_json(data)
    except ValidationError as error:
        raise Rejected(f"not a receipt: {error.error_count()} errors") from error
    if sum(len(run.digests) for run in receipt.runs) > RECEIPT_FRAMES_MAX:
        raise Rejected(f"receipt names more than {RECEIPT_FRAMES_MAX} frames")
    return receipt
