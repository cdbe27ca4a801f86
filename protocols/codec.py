"""Payloads: batches and curves as Arrow IPC, everything else as JSON lines, zstd around the whole.

Rule 1: decoding any bytes returns a value or raises Rejected, nothing else; sizes come first.
Rule 2: every payload decodes alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from numpy import float64
from numpy.typing import NDArray

from protocols.frames import Frame
from protocols.samples import SampleBatch


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The columns of one curve of a pass; the first is the axis. Equal lengths, float64."""

    pass_id: UUID
    name: str
    place: str
    axis: str
    columns: tuple[str, ...]
    units: tuple[str, ...]
    data: tuple[NDArray[float64], ...]


def encode_samples(batch: SampleBatch) -> bytes:
    """One Arrow IPC stream, uncompressed."""
    raise NotImplementedError


def decode_samples(raw: bytes) -> SampleBatch:
    """Rejected: not exactly what `encode_samples` of any minor version writes."""
    raise NotImplementedError


def encode_curve(curve: Curve) -> bytes:
    raise NotImplementedError


def decode_curve(raw: bytes) -> Curve:
    raise NotImplementedError


def curve_sha256(curve: Curve) -> str:
    """Names the curve in its pass: SHA-256 (hex) of its column data, independent of encoding."""
    raise NotImplementedError


def encode_lines(lines: Sequence[bytes]) -> bytes:
    return b"\n".join(lines)


def decode_lines(raw: bytes) -> tuple[bytes, ...]:
    return tuple(raw.split(b"\n"))


def compress(raw: bytes) -> bytes:
    """Zstandard level 3. The caller states `raw_len` and the flag in the header."""
    raise NotImplementedError


def payload_of(frame: Frame) -> bytes:
    """The frame's payload, expanded and of the length that the header states. Rejected: it lies."""
    raise NotImplementedError


def sizes(batches: Iterable[SampleBatch]) -> int:
    """Estimated bytes of the batches' payload, for sealing in time."""
    raise NotImplementedError
