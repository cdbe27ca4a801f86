"""S7 answers out of bytes, and how many items fit into a request. Pure.

Requests are python-snap7's encoding, made once and sent with a new sequence number; its decoding is
not used, because it gives up a whole answer for one bad item.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from protocols.image import Block
from protocols.samples import Column, Quality

GOOD: Final = 0xFF
OUT_OF_RANGE: Final = 0x05  # another cut of the block may do
_OPTIMIZED: Final = (
    "the block is missing or shorter, or it is optimized (TIA Portal: properties of the block, "
    "Attributes, untick 'Optimized block access', compile and download)"
)
_PUT_GET: Final = (
    "permit PUT/GET (TIA Portal: properties of the CPU, Protection & Security, Connection "
    "mechanisms, tick 'Permit access with PUT/GET communication from remote partner')"
)
_MEANINGS: Final = {
    0x01: (Quality.BAD_DEVICE_FAILURE, "hardware error"),
    0x03: (Quality.BAD, f"access refused: {_PUT_GET}"),
    0x05: (Quality.BAD_OUT_OF_RANGE, f"address out of range: {_OPTIMIZED}"),
    0x06: (Quality.BAD_TYPE_MISMATCH, "the PLC does not support this type here"),
    0x07: (Quality.BAD_TYPE_MISMATCH, "type and length do not agree"),
    0x0A: (Quality.BAD_NODE_ID_UNKNOWN, f"object does not exist: {_OPTIMIZED}"),
    0x8104: (Quality.BAD, f"the PLC has no such function: {_PUT_GET}"),
    0x8404: (Quality.BAD_OUT_OF_RANGE, f"address out of range: {_OPTIMIZED}"),
    0x8500: (Quality.BAD, "the request is too long: lower pdu_bytes_max"),
    0xD241: (Quality.BAD, "not allowed at the PLC's protection level"),
}
_HEAD: Final = struct.Struct(">BBHHHHBB")
_ITEM: Final = struct.Struct(">BBH")
_ANSWERS: Final = {2, 3}  # acknowledgement without and with data
_READ, _WRITE, _SET_UP = 4, 5, 0xF0
_IN_BITS: Final = {3, 4, 5}  # transport sizes whose length counts bits
_SEQUENCE_AT: Final = 4
_REQUEST_FIXED, _REQUEST_ITEM = 19, 12  # bytes; the first with the frames around it
_ANSWER_FIXED, _ANSWER_ITEM = 14, 4
_WRITE_FIXED: Final = 28


@dataclass(frozen=True, slots=True)
class Refusal:
    """A return code of an item, or the error of a whole answer."""

    code: int

    @property
    def quality(self) -> int:
        return _MEANINGS.get(self.code, (Quality.BAD, ""))[0]

    @property
    def reason(self) -> str:
        return explain(self.code) or f"return code 0x{self.code:02X}"


def explain(code: int) -> str:
    """What a code says and what to do; empty for an unknown one."""
    return _MEANINGS.get(code, (Quality.BAD, ""))[1]


def block_bytes_max(pdu_bytes: int) -> int:
    """The longest stretch that one answer carries, even."""
    return (pdu_bytes - _ANSWER_FIXED - _ANSWER_ITEM) // 2 * 2


def write_bytes_max(pdu_bytes: int) -> int:
    return pdu_bytes - _WRITE_FIXED


def group(blocks: Iterable[Block], pdu_bytes: int, items_max: int) -> tuple[tuple[Block, ...], ...]:
    """Blocks into the fewest requests (first fit, longest first): at most `items_max` in each."""
    items = min(items_max, max((pdu_bytes - _REQUEST_FIXED) // _REQUEST_ITEM, 1))
    room = pdu_bytes - _ANSWER_FIXED
    bins: list[tuple[int, list[Block]]] = []
    for block in sorted(blocks, key=lambda each: -each.size):
        need = _ANSWER_ITEM + block.size + block.size % 2
        for number, (used, held) in enumerate(bins):
            if used + need <= room and len(held) < items:
                held.append(block)
                bins[number] = (used + need, held)
                break
        else:
            bins.append((need, [block]))
    return tuple(tuple(held) for _, held in bins)


def with_sequence(request: bytes, sequence: int) -> bytes:
    """The same request under another number."""
    return b"".join(
        (request[:_SEQUENCE_AT], struct.pack(">H", sequence), request[_SEQUENCE_AT + 2 :])
    )


def sequence_of(answer: bytes) -> int:
    """ValueError: no answer at all."""
    return _head(answer)[3]


def decode_set_up(answer: bytes) -> int | Refusal:
    """The length of a PDU that the PLC grants. ValueError: not an answer to a set-up."""
    found = _parameters(answer, _SET_UP)
    if isinstance(found, Refusal):
        return found
    parameters, _ = found
    granted: int = struct.unpack_from(">BBHHH", parameters)[4]
    return granted


def decode_read(blocks: Sequence[Block], answer: bytes) -> list[Column | Refusal]:
    """Bytes or refusal of each block. ValueError: not an answer to this request."""
    found = _parameters(answer, _READ)
    if isinstance(found, Refusal):
        return [found] * len(blocks)
    parameters, data = found
    if len(parameters) < 2 or parameters[1] != len(blocks):  # noqa: PLR2004  # function and count
        raise ValueError("an answer to another number of items")
    items: list[Column | Refusal] = []
    at = 0
    try:
        for block in blocks:
            item, at = _item(block, data, at)
            items.append(item)
    except struct.error as error:
        raise ValueError(f"a cut answer: {error}") from error
    return items


def _item(block: Block, data: bytes, at: int) -> tuple[Column | Refusal, int]:
    code, transport, length = _ITEM.unpack_from(data, at)
    at += _ITEM.size
    size = (length + 7) // 8 if transport in _IN_BITS else length
    end = at + size + size % 2  # items are padded to even length
    if code != GOOD:
        return Refusal(code), end
    if size != block.size or at + size > len(data):
        raise ValueError(f"{size} bytes where {block.size} were asked for")
    return np.frombuffer(data, np.uint8, size, at), end


def decode_written(answer: bytes) -> Refusal | None:
    """None: done. ValueError: not an answer to a write."""
    found = _parameters(answer, _WRITE)
    if isinstance(found, Refusal):
        return found
    _, data = found
    if not data:
        raise ValueError("an answer without a return code")
    return None if data[0] == GOOD else Refusal(data[0])


def _head(answer: bytes) -> tuple[int, ...]:
    try:
        head = _HEAD.unpack_from(answer)
    except struct.error as error:
        raise ValueError("too short for S7") from error
    if head[0] != 0x32 or head[1] not in _ANSWERS:  # noqa: PLR2004  # S7's first byte
        raise ValueError("not an S7 answer")
    return head


def _parameters(answer: bytes, function: int) -> tuple[bytes, bytes] | Refusal:
    head = _head(answer)
    error = head[6] << 8 | head[7]
    if error:
        return Refusal(error)
    parameters = answer[_HEAD.size : _HEAD.size + head[4]]
    data = answer[_HEAD.size + head[4] : _HEAD.size + head[4] + head[5]]
    if not parameters or parameters[0] != function:
        raise ValueError(f"not an answer to function {function}")
    return parameters, data
