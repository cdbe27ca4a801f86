"""What a simulated tag is, whatever protocol carries it.

Owns the vocabulary: kinds of value, tags, the path of a tag. Knows no protocol, no address and no
value of the line. Times and durations are whole nanoseconds (a point in time: since 1970, UTC).
"""

from dataclasses import dataclass
from enum import StrEnum

Scalar = bool | int | float | str | bytes
Value = Scalar | list[bool] | list[int] | list[float] | list[str]


class Kind(StrEnum):
    """Every elementary type that the devices can serve."""

    BOOL = "bool"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    TEXT = "text"
    BYTES = "bytes"
    DATETIME = "datetime"
    DATE = "date"
    TIME = "time"
    DURATION = "duration"


TEXT_KINDS = frozenset({Kind.TEXT, Kind.BYTES})
FLOAT_KINDS = frozenset({Kind.FLOAT32, Kind.FLOAT64})


@dataclass(frozen=True, slots=True)
class Tag:
    """One named value of a device.

    Attributes:
        name: Name inside the device; the path is `device.name`.
        kind: Type of the value, or of each element.
        unit: UCUM code, empty without one.
        count: Number of elements of an array, 0 for a scalar.
        first: Number that the first element of an array carries in its path.
        size: Longest text or bytes, in bytes.
        form: Spelling in the protocol where there are several (`DT`, `WSTRING`, `CDAB`, `coil`).
        written: An agent may write it (hand-shakes only).
    """

    name: str
    kind: Kind
    unit: str = ""
    count: int = 0
    first: int = 0
    size: int = 0
    form: str = ""
    written: bool = False

    @property
    def elements(self) -> int:
        return max(self.count, 1)

    @property
    def extent(self) -> str:
        """The elements as addresses write them: `[60]` from 0, else `[1..6]`; a scalar has none."""
        if not self.count:
            return ""
        return f"[{self.first}..{self.first + self.count - 1}]" if self.first else f"[{self.count}]"


def path_of(device: str, name: str) -> str:
    return f"{device}.{name}"


def zero_of(tag: Tag) -> Value:
    """Returns what a device holds before anybody wrote the tag."""
    zero: Scalar = 0
    if tag.kind is Kind.BOOL:
        zero = False
    elif tag.kind in FLOAT_KINDS:
        zero = 0.0
    elif tag.kind is Kind.TEXT:
        zero = ""
    elif tag.kind is Kind.BYTES:
        zero = b""
    return [zero] * tag.count if tag.count else zero  # type: ignore[return-value]  # one kind each
