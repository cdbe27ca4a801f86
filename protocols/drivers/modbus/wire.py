"""Modbus PDUs as bytes: requests, answers, exceptions and what they mean. Pure."""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from protocols.drivers.modbus.decode import bits_to_bytes
from protocols.image import Block
from protocols.samples import Column, Quality

ILLEGAL_FUNCTION: Final = 1
REFUSED: Final = frozenset({2, 3})  # illegal address or amount: another cut of the block may do
_MEANINGS: Final = {
    1: (Quality.BAD, "illegal function: the device has no such table or cannot write so"),
    2: (Quality.BAD_NODE_ID_UNKNOWN, "illegal address: no such register (addresses are 0-based)"),
    3: (Quality.BAD_OUT_OF_RANGE, "illegal value: refused amount or value; lower registers_max"),
    4: (Quality.BAD_DEVICE_FAILURE, "device failure"),
    5: (Quality.BAD, "acknowledged, not done yet"),
    6: (Quality.BAD, "device busy"),
    8: (Quality.BAD_DEVICE_FAILURE, "memory parity error"),
    10: (Quality.BAD_NO_COMMUNICATION, "gateway path unavailable: check the gateway's routing"),
    11: (Quality.BAD_NO_COMMUNICATION, "no answer behind the gateway: check the unit"),
}
_BIT_FUNCTIONS: Final = {1, 2}
_EXCEPTION: Final = 0x80


@dataclass(frozen=True, slots=True)
class Refusal:
    """An exception answer."""

    code: int

    @property
    def quality(self) -> int:
        return _MEANINGS.get(self.code, (Quality.BAD, ""))[0]


def explain(code: int) -> str:
    """What an exception code says and what to do; empty for an unknown one."""
    return _MEANINGS.get(code, (Quality.BAD, ""))[1]


def encode_read(block: Block) -> bytes:
    return struct.pack(">BHH", block.space[1], block.start, block.size)


def decode_read(block: Block, answer: bytes) -> Column | Refusal:
    """Bytes of the block for its place in the image. ValueError: not an answer to this request."""
    function = block.space[1]
    refusal = _refusal(function, answer)
    if refusal is not None:
        return refusal
    length = (block.size + 7) // 8 if function in _BIT_FUNCTIONS else 2 * block.size
    if len(answer) != 2 + length or answer[1] != length:
        raise ValueError(f"{len(answer) - 2} bytes where {length} were asked for")
    if function in _BIT_FUNCTIONS:
        return bits_to_bytes(answer[2:], block.size)
    return np.frombuffer(answer, np.uint8, offset=2)


def decode_written(request: bytes, answer: bytes) -> Refusal | None:
    """None: done. ValueError: not an answer to this request."""
    refusal = _refusal(request[0], answer)
    if refusal is None and answer[:3] != request[:3]:
        raise ValueError("the answer names another address")
    return refusal


def encode_write_coil(start: int, *, on: bool) -> bytes:
    return struct.pack(">BHH", 5, start, 0xFF00 if on else 0)


def encode_write_registers(start: int, raw: bytes) -> bytes:
    if len(raw) == 2:  # noqa: PLR2004  # one register has its own function
        return struct.pack(">BH", 6, start) + raw
    return struct.pack(">BHHB", 16, start, len(raw) // 2, len(raw)) + raw


def encode_mask_write(start: int, mask: int, value: int) -> bytes:
    return struct.pack(">BHHH", 22, start, ~mask & 0xFFFF, value)


def _refusal(function: int, answer: bytes) -> Refusal | None:
    if len(answer) > 1 and answer[0] == function | _EXCEPTION:
        return Refusal(answer[1])
    if not answer or answer[0] != function:
        raise ValueError(f"function {answer[:1].hex() or 'none'} where {function} was asked")
    return None
