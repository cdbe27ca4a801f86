"""The block `types`: one tag of every type that a protocol has, with a telling value each.

Pure. Values are chosen so that a wrong type, sign, byte order, word order, length or scale shows.
"""

from simulators.registers import ORDERS
from simulators.s7times import TIME_FORMS
from simulators.tags import Kind, Tag, Value

MOMENT_NS = 1_772_323_199_123_456_000  # 2026-02-28T23:59:59.123456Z, the last second of a month
_DAY_NS = 86_400_000_000_000

_SCALARS: dict[Kind, Value] = {
    Kind.BOOL: True,
    Kind.INT8: -128,
    Kind.UINT8: 200,
    Kind.INT16: -12_345,
    Kind.UINT16: 54_321,
    Kind.INT32: -1_234_567_890,
    Kind.UINT32: 3_405_691_582,
    Kind.INT64: -1_234_567_890_123_456_789,
    Kind.UINT64: 18_364_758_544_493_064_720,
    Kind.FLOAT32: -123.4560546875,
    Kind.FLOAT64: -1.2345678901234567e-123,
}
_LISTS: dict[Kind, Value] = {
    Kind.BOOL: [True, False, False, True, True],
    Kind.INT16: [-32_768, -1, 0, 1, 32_767],
    Kind.FLOAT32: [-1.5, 0.0, 0.25, 1e30, -1e-30],
    Kind.FLOAT64: [-1.5, 0.0, 0.1, 1e300, -1e-300],
}
_TEXT, _TEXT_BYTES = "Grüße 12 µm", 20
_BYTES = bytes(range(0xF8, 0x100))
_WIDE = (Kind.INT32, Kind.UINT32, Kind.INT64, Kind.UINT64, Kind.FLOAT32, Kind.FLOAT64)

TypedTag = tuple[Tag, Value]


def typed_tags(protocol: str) -> list[TypedTag]:
    """Returns the block of one protocol: `modbus`, `s7` or `opcua`."""
    tags = [(Tag(f"types.{kind}", kind), value) for kind, value in _SCALARS.items()]
    tags += [(Tag(f"types.{kind}_list", kind, count=5), value) for kind, value in _LISTS.items()]
    tags.append((Tag("types.text", Kind.TEXT, size=_TEXT_BYTES), _TEXT))
    tags.append((Tag("types.bytes", Kind.BYTES, size=len(_BYTES)), _BYTES))
    tags.append((Tag("types.written", Kind.INT32, written=True), 0))
    bit = Tag("types.written_bit", Kind.BOOL, written=True)
    return [*tags, *_OWN[protocol], (bit, False)]


def _modbus_tags() -> list[TypedTag]:
    tags: list[TypedTag] = [
        (Tag("types.bool_discrete", Kind.BOOL, form="discrete"), True),
        (Tag("types.float32_input", Kind.FLOAT32, form="input"), 273.15625),
    ]
    for order in ORDERS:
        tags += [
            (Tag(f"types.{kind}_{order.lower()}", kind, form=order), _SCALARS[kind])
            for kind in _WIDE
        ]
    return tags


def _s7_tags() -> list[TypedTag]:
    values: dict[Kind, int] = {
        Kind.DATETIME: MOMENT_NS,
        Kind.DATE: MOMENT_NS // _DAY_NS * _DAY_NS,
        Kind.TIME: MOMENT_NS % _DAY_NS,
        Kind.DURATION: -90_061_001_000_000,
    }
    tags: list[TypedTag] = [
        (Tag(f"types.{form.lower()}", kind, form=form), values[kind])
        for kind, forms in TIME_FORMS.items()
        for form in forms
    ]
    tags.append((Tag("types.wstring", Kind.TEXT, size=_TEXT_BYTES, form="WSTRING"), _TEXT))
    return tags


def _opcua_tags() -> list[TypedTag]:
    return [
        (Tag("types.datetime", Kind.DATETIME), MOMENT_NS),
        (Tag("types.text_list", Kind.TEXT, count=3), ["a", "", "ü"]),
        (Tag("types.float64_nan", Kind.FLOAT64), float("nan")),
        (Tag("types.bad", Kind.FLOAT64), 1.0),
        (Tag("types.uncertain", Kind.FLOAT64), 2.0),
    ]


_OWN = {"modbus": _modbus_tags(), "s7": _s7_tags(), "opcua": _opcua_tags()}
TYPED_STATUS = {"types.bad": 0x808C0000, "types.uncertain": 0x40930000}
"""BadSensorFailure without a value, UncertainSensorNotAccurate with one (OPC UA only)."""
