"""S7 communication: a request's bytes in, the answer's bytes and its record out.

Pure. One response reads one snapshot of all blocks it names. Item codes are those of a PLC: 0xFF
good, 0x0A no such block, 0x05 outside the block, 0x03 not writable. Only data blocks are served.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from simulators.datablocks import BlockImage
from simulators.image import Refresh
from simulators.journal import S7Item

SETUP, READ, WRITE = 0xF0, 0x04, 0x05
GOOD, ACCESS_DENIED, OUTSIDE, NO_SUCH_BLOCK = 0xFF, 0x03, 0x05, 0x0A
_REQUEST, _ANSWER, _AREA_BLOCK = 1, 3, 0x84
_HEADER = struct.Struct(">BBHHHH")
_ANSWER_HEAD_BYTES = 14
_BIT_SIZE = 1
# Transport size of a request's item: bytes an element takes.
_ELEMENT_BYTES = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 4}
_AS_BIT, _AS_BITS = 3, 4
_IN_BITS = frozenset({4, 5})
_FUNCTION_UNKNOWN, _TOO_LARGE = (0x81, 0x04), (0x85, 0x00)


@dataclass(frozen=True, slots=True)
class Block:
    """A data block and the device that it belongs to."""

    device: str
    image: BlockImage
    number: int


@dataclass(frozen=True, slots=True)
class Written:
    """A write of one item: which tags it touched and whether the PLC took it."""

    device: str
    image: BlockImage
    names: tuple[str, ...]
    code: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer's bytes; `items` of a read, `writes` of a write, `pdu_bytes` of a set-up."""

    pdu: bytes
    items: tuple[S7Item, ...] = ()
    writes: tuple[Written, ...] = ()
    pdu_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Item:
    size: int
    count: int
    block: int
    area: int
    bit_address: int

    @property
    def length(self) -> int:
        return _ELEMENT_BYTES.get(self.size, 1) * self.count


def answer(blocks: Mapping[int, Block], pdu: bytes, pdu_bytes: int, refresh: Refresh) -> Answer:
    """Answers one request within the negotiated size.

    Raises:
        ValueError: The bytes are no S7 request.
    """
    if len(pdu) < _HEADER.size + 1 or pdu[0] != 0x32 or pdu[1] != _REQUEST:  # noqa: PLR2004  # S7's first byte
        raise ValueError("not an S7 request")
    _, _, _, reference, parameters_length, data_length = _HEADER.unpack_from(pdu)
    parameters = pdu[_HEADER.size : _HEADER.size + parameters_length]
    data = pdu[_HEADER.size + parameters_length :][:data_length]
    try:
        match parameters[0]:
            case 0xF0:
                return _set_up(reference, parameters, pdu_bytes)
            case 0x04:
                return _read(blocks, reference, _items(parameters), pdu_bytes, refresh)
            case 0x05:
                return _write(blocks, reference, _items(parameters), data)
            case _:
                return Answer(_frame(reference, b"", b"", _FUNCTION_UNKNOWN))
    except (struct.error, IndexError) as exc:
        raise ValueError("a cut S7 request") from exc


def _frame(
    reference: int, parameters: bytes, data: bytes, error: tuple[int, int] = (0, 0)
) -> bytes:
    head = _HEADER.pack(0x32, _ANSWER, 0, reference, len(parameters), len(data))
    return head + bytes(error) + parameters + data


def _set_up(reference: int, parameters: bytes, most: int) -> Answer:
    _, _, calling, called, wanted = struct.unpack(">BBHHH", parameters)
    agreed = min(wanted, most)
    reply = struct.pack(">BBHHH", SETUP, 0, min(calling, 1), min(called, 1), agreed)
    return Answer(_frame(reference, reply, b""), pdu_bytes=agreed)


def _items(parameters: bytes) -> list[_Item]:
    items = []
    for number in range(parameters[1]):
        at = 2 + 12 * number
        head, length, syntax, size, count, block, area = struct.unpack_from(
            ">BBBBHHB", parameters, at
        )
        if (head, length, syntax) != (0x12, 0x0A, 0x10):
            raise ValueError("only absolute addresses are known")
        address = int.from_bytes(parameters[at + 9 : at + 12], "big")
        items.append(_Item(size, count, block, area, address))
    return items


def _read(
    blocks: Mapping[int, Block],
    reference: int,
    items: list[_Item],
    pdu_bytes: int,
    refresh: Refresh,
) -> Answer:
    for device in {blocks[item.block].device for item in items if item.block in blocks}:
        refresh(device)
    found = [_read_item(blocks, item) for item in items]
    data = b""
    for number, (item, result) in enumerate(zip(items, found, strict=True)):
        data += _item_bytes(item, result)
        if len(data) % 2 and number < len(items) - 1:
            data += b"\0"
    if _ANSWER_HEAD_BYTES + len(data) > pdu_bytes:
        return Answer(_frame(reference, b"", b"", _TOO_LARGE))
    return Answer(_frame(reference, bytes([READ, len(items)]), data), items=tuple(found))


def _read_item(blocks: Mapping[int, Block], item: _Item) -> S7Item:
    start, bit = divmod(item.bit_address, 8)
    is_bit = item.size == _BIT_SIZE
    code, raw = GOOD, b""
    if item.area != _AREA_BLOCK or item.block not in blocks:
        code = NO_SUCH_BLOCK
    elif item.size not in _ELEMENT_BYTES or (is_bit and item.count != 1):
        code = ACCESS_DENIED
    else:
        memory = blocks[item.block].image.blocks[item.block]
        if start + item.length > len(memory):
            code = OUTSIDE
        else:
            raw = bytes(memory[start : start + item.length])
            raw = bytes([raw[0] >> bit & 1]) if is_bit else raw
    return S7Item(item.area, item.block, start, bit if is_bit else -1, code, raw)


def _item_bytes(item: _Item, result: S7Item) -> bytes:
    if result.code != GOOD:
        return struct.pack(">BBH", result.code, 0, 0)
    if item.size == _BIT_SIZE:
        return struct.pack(">BBH", GOOD, _AS_BIT, 1) + result.raw
    return struct.pack(">BBH", GOOD, _AS_BITS, 8 * len(result.raw)) + result.raw


def _write(blocks: Mapping[int, Block], reference: int, items: list[_Item], data: bytes) -> Answer:
    writes, at = [], 0
    for item in items:
        _, size, length = struct.unpack_from(">BBH", data, at)
        length = (length + 7) // 8 if size in _IN_BITS else length
        raw = data[at + 4 : at + 4 + length]
        at += 4 + length + length % 2
        writes.append(_write_item(blocks, item, raw))
    codes = bytes(written.code for written in writes)
    return Answer(
        _frame(reference, bytes([WRITE, len(items)]), codes),
        writes=tuple(written for written in writes if written.device),
    )


def _write_item(blocks: Mapping[int, Block], item: _Item, raw: bytes) -> Written:
    block = blocks.get(item.block)
    if block is None or item.area != _AREA_BLOCK:
        return Written("", BlockImage(), (), NO_SUCH_BLOCK)
    image = block.image
    is_bit = item.size == _BIT_SIZE
    bits = 1 if is_bit else 8 * item.length
    names = tuple(image.covering(item.block, item.bit_address, bits))
    code = GOOD
    if (item.bit_address + bits + 7) // 8 > len(image.blocks[item.block]):
        code = OUTSIDE
    elif len(raw) != item.length or not names or not _all_written(image, names):
        code = ACCESS_DENIED
    elif is_bit:
        image.put(names[0], bool(raw[0] & 1))
    else:
        start = item.bit_address // 8
        image.blocks[item.block][start : start + len(raw)] = raw
    return Written(block.device, image, names, code)


def _all_written(image: BlockImage, names: tuple[str, ...]) -> bool:
    return all(image.slots[name].tag.written for name in names)
