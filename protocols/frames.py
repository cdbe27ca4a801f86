"""The frame: a short sealed header before an opaque payload. Wire 1, `docs/wire-1.md`.

Rule 1: header and payload are sealed bytes; nobody rewrites them after `seal`.
Rule 2: a hop may act on the header without reading the payload, and on the 40 fixed bytes without
knowing this version.
Rule 3: reading any bytes returns a value or raises Rejected; sizes are checked first.
"""

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from protocols.errors import Rejected

MAGIC: Final = b"TLF"
MAJOR: Final = 1
PAYLOAD_BYTES_MAX: Final = 2 * 1024 * 1024
RAW_BYTES_MAX: Final = 16 * 1024 * 1024
HEADER_BYTES_MAX: Final = 4096  # ours is about 160; leaves room for extensions, bounds a reader
NO_WATERMARK: Final = -(2**63)
AGENT_PATTERN: Final = re.compile(r"[a-z0-9.-]{1,63}")

_AGENT_BYTES: Final = re.compile(AGENT_PATTERN.pattern.encode())
_PREFIX: Final = struct.Struct("<3sBBBHHIHQQQ")  # the 40 bytes that stay for ever
_BODY: Final = struct.Struct("<QIQqqqqI")
_EXTENSION: Final = struct.Struct("<HH")
_TOTALS: Final = struct.Struct("<QQQQ")
_CRC: Final = struct.Struct("<I")
_TOTALS_TYPE: Final = 1
_MUST_UNDERSTAND: Final = 0x8000
_COMPRESSED: Final = 0x0001


class Lane(IntEnum):
    """Order in which the uplink sends and ingest takes: see the spool and ingest."""

    NONE = 0
    EVENTS = 1
    LIVE = 2
    BACKLOG = 3
    CONTROL = 4


class Kind(IntEnum):
    """What the payload holds."""

    SAMPLES = 1
    EVENTS = 2
    CURVE = 3
    ALARMS = 4
    TAGS = 5
    OUTAGE = 6
    RELEASE = 7
    DROP = 8
    HELLO = 9
    STATUS = 10
    RECEIPT = 11


class Identity(NamedTuple):
    """Who a frame is, digest apart. `epoch` u64 random per agent process; `seq` from 1 per lane."""

    agent: str
    epoch: int
    lane: Lane
    seq: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Rows since the epoch began, at sealing. `discarded`: lost before the spool."""

    read: int = 0
    derived: int = 0
    filtered: int = 0
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """What the sealer states. Times int64 µs UTC (agent time); `digest` and lengths are `seal`'s.

    `floor`: lowest seq of this lane still in the spool at sealing. `rows`: samples of a
    samples frame, lines of a JSON kind, 0 of a curve. `rows_before`: rows of this lane since the
    epoch began.
    `watermark`: no later frame of this epoch and lane has an earlier agent time
    (NO_WATERMARK: no promise).
    """

    kind: Kind
    lane: Lane
    agent: str
    epoch: int
    seq: int
    floor: int = 0
    rows: int = 0
    rows_before: int = 0
    sealed_at: int = 0
    t_min: int = 0
    t_max: int = 0
    watermark: int = NO_WATERMARK
    raw_len: int = 0
    compressed: bool = False
    totals: Totals | None = None
    digest: int = 0
    payload_len: int = 0
    unknown_extensions: tuple[tuple[int, bytes], ...] = field(default=())

    @property
    def identity(self) -> Identity:
        return Identity(self.agent, self.epoch, self.lane, self.seq)


@dataclass(frozen=True, slots=True)
class Frame:
    """A sealed frame: parsed header, its bytes, the payload as sent."""

    header: Header
    head: bytes
    payload: bytes

    @property
    def sealed(self) -> bytes:
        """Header ‖ payload: what MQTT carries."""
        return self.head + self.payload


@dataclass(frozen=True, slots=True)
class Newer:
    """A frame with a valid prefix of which this reader does not know the rest: `later`.

    Only what the 40 fixed bytes say; the agent is the topic's.
    """

    major: int
    kind: int
    lane: int
    epoch: int
    seq: int
    digest: int
    why: str


class Label(NamedTuple):
    """What stands on the outside of a frame: enough to carry it, nothing of what is in it.

    `agent` None: of a major that this reader does not know; only the 40 bytes are vouched for.
    """

    major: int
    kind: int
    lane: int
    header_len: int
    payload_len: int
    epoch: int
    seq: int
    digest: int
    agent: str | None


def digest(payload: bytes | memoryview) -> int:
    """BLAKE2b-64 of the payload as sent, little-endian u64."""
    return int.from_bytes(hashlib.blake2b(payload, digest_size=8).digest(), "little")


def seal(header: Header, payload: bytes) -> Frame:
    """Fill in digest and lengths, freeze both as bytes. ValueError: a field cannot be held."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError(f"payload of {len(payload)} bytes, at most {PAYLOAD_BYTES_MAX}")
    if not AGENT_PATTERN.fullmatch(header.agent):
        raise ValueError(f"agent id {header.agent!r} is not 1 to 63 of [a-z0-9.-]")
    stamp = digest(payload)
    head = _pack(header, stamp, len(payload))
    filled = {
        name: getattr(header, name) for name in Header.__dataclass_fields__ if name not in _BY_SEAL
    }
    return Frame(Header(**filled, digest=stamp, payload_len=len(payload)), head, payload)


_BY_SEAL: Final = ("digest", "payload_len")


def split(data: bytes) -> Frame | Newer:
    """Header and payload of one MQTT message. Rejected: unreadable, or its lengths lie."""
    found = read_header(data)
    if isinstance(found, Newer):
        return found
    header, header_len = found
    payload = bytes(data[header_len:])
    return join(header, bytes(data[:header_len]), payload)


def join(header: Header, head: bytes, payload: bytes) -> Frame:
    """A frame of a header read elsewhere and its payload. Rejected: length or digest differ."""
    if len(payload) != header.payload_len:
        raise Rejected(f"payload has {len(payload)} bytes, header says {header.payload_len}")
    if digest(payload) != header.digest:
        raise Rejected("payload does not match the header's digest")
    return Frame(header, head, payload)


def read_header(data: bytes) -> tuple[Header, int] | Newer:
    """Header and its length in bytes. Rejected: not a header of any version, or damaged."""
    if len(data) < _PREFIX.size:
        raise Rejected(f"unreadable header: {len(data)} bytes, at least {_PREFIX.size}")
    prefix = _Prefix(*_PREFIX.unpack_from(data))
    _check_prefix(prefix, len(data))
    if prefix.major != MAJOR:
        return _newer(prefix, f"wire major {prefix.major}")
    head = bytes(data[: prefix.header_len])
    (crc,) = _CRC.unpack_from(head, prefix.header_len - _CRC.size)
    if zlib.crc32(head[: -_CRC.size]) != crc:
        raise Rejected("unreadable header: crc differs")
    if prefix.kind not in _KINDS or prefix.lane not in _LANES:
        return _newer(prefix, f"kind {prefix.kind}, lane {prefix.lane}")
    return _unpack(prefix, head)


def read_prefix(data: bytes) -> Newer | None:
    """What the 40 fixed bytes say, however the rest lies. None: they are no frame's.

    Enough to name a frame to its sender: an entry answers only to its own digest.
    """
    if len(data) < _PREFIX.size:
        return None
    prefix = _Prefix(*_PREFIX.unpack_from(data))
    return _newer(prefix, "") if prefix.magic == MAGIC and prefix.major else None


def read_label(data: bytes | memoryview) -> Label:
    """Rejected: no header of any version, or a damaged one.

    For a hop that carries frames by the thousand: it reads neither times nor extensions, and
    `check_payload` looks at the rest.
    """
    if len(data) < _PREFIX.size:
        raise Rejected(f"unreadable header: {len(data)} bytes, at least {_PREFIX.size}")
    prefix = _Prefix(*_PREFIX.unpack_from(data))
    _check_prefix(prefix, len(data))
    agent = _read_agent(prefix, data) if prefix.major == MAJOR else None
    return Label(
        prefix.major,
        prefix.kind,
        prefix.lane,
        prefix.header_len,
        prefix.payload_len,
        prefix.epoch,
        prefix.seq,
        prefix.digest,
        agent,
    )


def check_payload(label: Label, payload: bytes | memoryview) -> None:
    """Rejected: not the payload that was sealed."""
    if len(payload) != label.payload_len:
        raise Rejected(f"payload has {len(payload)} bytes, header says {label.payload_len}")
    if digest(payload) != label.digest:
        raise Rejected("payload does not match the header's digest")


class _Prefix(NamedTuple):
    magic: bytes
    major: int
    kind: int
    lane: int
    flags: int
    header_len: int
    payload_len: int
    reserved: int
    epoch: int
    seq: int
    digest: int


_KINDS: Final = frozenset(int(kind) for kind in Kind)
_LANES: Final = frozenset(int(lane) for lane in Lane)


def _newer(prefix: _Prefix, why: str) -> Newer:
    return Newer(
        prefix.major, prefix.kind, prefix.lane, prefix.epoch, prefix.seq, prefix.digest, why
    )


def _read_agent(prefix: _Prefix, data: bytes | memoryview) -> str:
    crc_at = prefix.header_len - _CRC.size
    if zlib.crc32(data[:crc_at]) != _CRC.unpack_from(data, crc_at)[0]:
        raise Rejected("unreadable header: crc differs")
    end = _PREFIX.size + 1 + data[_PREFIX.size]
    agent = data[_PREFIX.size + 1 : min(end, crc_at)]
    if not _AGENT_BYTES.fullmatch(agent):
        raise Rejected(f"unreadable header: agent id {bytes(agent)!r}")
    return str(agent, "ascii")


def _check_prefix(prefix: _Prefix, length: int) -> None:
    if prefix.magic != MAGIC or prefix.major == 0:
        raise Rejected("unreadable header: no magic")
    if prefix.payload_len > PAYLOAD_BYTES_MAX:
        raise Rejected(f"payload of {prefix.payload_len} bytes, at most {PAYLOAD_BYTES_MAX}")
    if not _PREFIX.size + _CRC.size <= prefix.header_len <= min(length, HEADER_BYTES_MAX):
        raise Rejected(f"unreadable header: header_len {prefix.header_len} of {length} bytes")


def _pack(header: Header, stamp: int, payload_len: int) -> bytes:
    agent = header.agent.encode("ascii")
    body = _BODY.pack(
        header.floor,
        header.rows,
        header.rows_before,
        header.sealed_at,
        header.t_min,
        header.t_max,
        header.watermark,
        header.raw_len,
    )
    extensions = _pack_extensions(header)
    length = _PREFIX.size + 1 + len(agent) + len(body) + len(extensions) + _CRC.size
    if length > HEADER_BYTES_MAX:
        raise ValueError(f"header of {length} bytes, at most {HEADER_BYTES_MAX}")
    flags = _COMPRESSED if header.compressed else 0
    prefix = _PREFIX.pack(
        MAGIC,
        MAJOR,
        header.kind,
        header.lane,
        flags,
        length,
        payload_len,
        0,
        header.epoch,
        header.seq,
        stamp,
    )
    head = prefix + bytes([len(agent)]) + agent + body + extensions
    return head + _CRC.pack(zlib.crc32(head))


def _pack_extensions(header: Header) -> bytes:
    known = b""
    if header.totals is not None:
        t = header.totals
        known = _EXTENSION.pack(_TOTALS_TYPE, _TOTALS.size)
        known += _TOTALS.pack(t.read, t.derived, t.filtered, t.discarded)
    return known + b"".join(
        _EXTENSION.pack(kind, len(body)) + body for kind, body in header.unknown_extensions
    )


def _unpack(prefix: _Prefix, head: bytes) -> tuple[Header, int] | Newer:
    try:
        return _unpack_body(prefix, head)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Rejected(f"unreadable header: {error}") from error


def _unpack_body(prefix: _Prefix, head: bytes) -> tuple[Header, int] | Newer:
    agent_end = _PREFIX.size + 1 + head[_PREFIX.size]
    agent = head[_PREFIX.size + 1 : agent_end].decode("ascii")
    if not AGENT_PATTERN.fullmatch(agent):
        raise Rejected(f"unreadable header: agent id {agent!r}")
    floor, rows, rows_before, sealed_at, t_min, t_max, watermark, raw_len = _BODY.unpack_from(
        head, agent_end
    )
    if raw_len > RAW_BYTES_MAX:
        raise Rejected(f"raw_len {raw_len}, at most {RAW_BYTES_MAX}")
    extensions = _extensions(head[agent_end + _BODY.size : -_CRC.size])
    unknown = tuple((kind, body) for kind, body in extensions if kind != _TOTALS_TYPE)
    if any(kind & _MUST_UNDERSTAND for kind, _ in unknown):
        return _newer(prefix, "an extension that must be understood")
    header = Header(
        Kind(prefix.kind),
        Lane(prefix.lane),
        agent,
        prefix.epoch,
        prefix.seq,
        floor,
        rows,
        rows_before,
        sealed_at,
        t_min,
        t_max,
        watermark,
        raw_len,
        compressed=bool(prefix.flags & _COMPRESSED),
        totals=_totals(extensions),
        digest=prefix.digest,
        payload_len=prefix.payload_len,
        unknown_extensions=unknown,
    )
    return header, prefix.header_len


def _extensions(data: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        kind, length = _EXTENSION.unpack_from(data, at)
        at += _EXTENSION.size
        if at + length > len(data):
            raise Rejected("unreadable header: an extension is cut")
        found.append((kind, data[at : at + length]))
        at += length
    return found


def _totals(extensions: list[tuple[int, bytes]]) -> Totals | None:
    for kind, body in extensions:
        if kind == _TOTALS_TYPE:
            return Totals(*_TOTALS.unpack_from(body))
    return None
