"""Which tags each device of the line has, by the name of the device.

A device is a role (`st010`, `scanner20`), not a PLC: several may stand on one controller. Order is
part of the contract, because addresses follow from it: append, never insert.
"""

from collections.abc import Callable

from simulators.tags import Kind, Tag

NESTS = ("a", "b")
SCREWS = range(1, 7)
SCREW_POINTS = 60
PRESS_POINTS = 400
DMC_BYTES = 48

END_OF_LINE_VALUES: tuple[tuple[str, str, float, float], ...] = (
    ("resistance_u", "mOhm", 17.0, 19.0),
    ("resistance_v", "mOhm", 17.0, 19.0),
    ("resistance_w", "mOhm", 17.0, 19.0),
    ("insulation", "MOhm", 500.0, 10_000.0),
    ("back_emf", "V", 118.0, 126.0),
    ("no_load_current", "A", 3.0, 7.5),
    ("torque_max", "N.m", 308.0, 330.0),
    ("speed_max", "/min", 15_800.0, 16_400.0),
    ("vibration", "mm/s", 0.0, 1.8),
    ("noise", "dB", 0.0, 72.0),
    ("leak_rate", "mL/min", 0.0, 6.0),
    ("resolver_offset", "deg", -2.0, 2.0),
)


def tags_of(device: str) -> list[Tag]:
    """Returns the tags of a device of the line; none for a name that is not one."""
    make = _DEVICES.get(device)
    return make() if make else []


def devices_of_line() -> list[str]:
    return list(_DEVICES)


def analog_tags(count: int) -> list[Tag]:
    """Returns `count` tags that change all the time: six of ten float, three integer, one bool."""
    return [_analog_tag(number) for number in range(1, count + 1)]


def _analog_tag(number: int) -> Tag:
    place = number % 10
    if place == 0:
        return Tag(f"analog.b{number:03}", Kind.BOOL)
    if place in {3, 6}:
        return Tag(f"analog.i{number:03}", Kind.INT16)
    if place == 9:  # noqa: PLR2004  # one in ten is a wide integer
        return Tag(f"analog.i{number:03}", Kind.INT32)
    return Tag(f"analog.f{number:03}", Kind.FLOAT32, unit="V")


def _mailbox(ready: str, taken: str, count: str) -> list[Tag]:
    return [
        Tag(ready, Kind.BOOL, form="coil"),
        Tag(taken, Kind.BOOL, form="coil", written=True),
        Tag(count, Kind.UINT16),
    ]


def _dmc(name: str) -> Tag:
    return Tag(name, Kind.TEXT, size=DMC_BYTES)


def _judgement(prefix: str, code: str = "code") -> list[Tag]:
    return [Tag(f"{prefix}{code}", Kind.INT16), Tag(f"{prefix}nok", Kind.INT16)]


def _st000() -> list[Tag]:
    return [
        *_mailbox("ready", "taken", "count"),
        _dmc("mark.dmc"),
        Tag("mark.type", Kind.TEXT, size=20),
        Tag("mark.order", Kind.TEXT, size=20),
        Tag("mark.carrier", Kind.TEXT, size=16),
    ]


def _w10() -> list[Tag]:
    return [
        Tag("running", Kind.BOOL, form="discrete"),
        Tag("cycle_no", Kind.UINT16),
        _dmc("dmc"),
        Tag("program", Kind.UINT16),
        Tag("tension", Kind.FLOAT32, unit="N", form="input"),
        Tag("resistance", Kind.FLOAT32, unit="mOhm"),
        Tag("turns", Kind.UINT16),
        *_judgement(""),
    ]


def _f07() -> list[Tag]:
    return [
        *_mailbox("scan_ready", "scan_taken", "scan_no"),
        Tag("scan.lot", Kind.TEXT, size=24),
        Tag("scan.qty", Kind.FLOAT32, unit="kg"),
        Tag("scan.at", Kind.INT64, unit="us"),  # since 1970, UTC
    ]


def _r15() -> list[Tag]:
    return [
        *_mailbox("ready", "taken", "count"),
        _dmc("result.dmc"),
        _dmc("result.rotor_dmc"),
        Tag("result.force", Kind.FLOAT32, unit="kN"),
        Tag("result.temperature", Kind.FLOAT32, unit="Cel"),
        *_judgement("result."),
    ]


def _p20() -> list[Tag]:
    tags = [Tag("oil_temp", Kind.FLOAT32, unit="Cel")]
    for nest in NESTS:
        tags += [
            Tag(f"{nest}.clamped", Kind.BOOL),
            Tag(f"{nest}.done", Kind.BOOL),
            Tag(f"{nest}.cycle_no", Kind.UINT16),
            *_judgement(f"{nest}.", "result"),
            Tag(f"{nest}.program", Kind.INT16),
            Tag(f"{nest}.curve.way", Kind.FLOAT32, unit="mm", count=PRESS_POINTS),
            Tag(f"{nest}.curve.force", Kind.FLOAT32, unit="kN", count=PRESS_POINTS),
            Tag(f"{nest}.curve.n", Kind.INT16),
        ]
    return tags


def _scanner20() -> list[Tag]:
    return [
        *(_dmc(nest) for nest in NESTS),
        *(Tag(f"{nest}_no", Kind.UINT16) for nest in NESTS),
    ]


def _st010() -> list[Tag]:
    return [
        *_mailbox("ready", "taken", "cycle_no"),
        Tag("master_on", Kind.BOOL),
        Tag("setup_on", Kind.BOOL),
        _dmc("dmc"),
        Tag("rfid", Kind.TEXT, size=16),
        _dmc("cover_dmc"),
        Tag("t_start", Kind.DATETIME),
        Tag("t_end", Kind.DATETIME),
        Tag("program", Kind.INT16),
        Tag("result.code", Kind.INT16),
        Tag("result.nok_code", Kind.INT16),
        Tag("result.t_low", Kind.FLOAT32, unit="N.m"),
        Tag("result.t_high", Kind.FLOAT32, unit="N.m"),
        Tag("result.torque", Kind.FLOAT32, unit="N.m", count=len(SCREWS), first=1),
        Tag("result.angle", Kind.FLOAT32, unit="deg", count=len(SCREWS), first=1),
        Tag("result.cn", Kind.INT16, count=len(SCREWS), first=1),
        *(_screw_curve("cx", screw, "deg") for screw in SCREWS),
        *(_screw_curve("cy", screw, "N.m") for screw in SCREWS),
    ]


def _screw_curve(name: str, screw: int, unit: str) -> Tag:
    return Tag(f"result.{name}[{screw}]", Kind.FLOAT32, unit=unit, count=SCREW_POINTS)


def _eol30() -> list[Tag]:
    tags = [*_mailbox("ready", "taken", "count"), _dmc("result.dmc"), *_judgement("result.")]
    for name, unit, _, _ in END_OF_LINE_VALUES:
        tags += [
            Tag(f"result.{name}", Kind.FLOAT32, unit=unit),
            Tag(f"result.{name}_low", Kind.FLOAT32, unit=unit),
            Tag(f"result.{name}_high", Kind.FLOAT32, unit=unit),
        ]
    return tags


_DEVICES: dict[str, Callable[[], list[Tag]]] = {
    "st000": _st000,
    "w10": _w10,
    "f07": _f07,
    "r15": _r15,
    "p20": _p20,
    "scanner20": _scanner20,
    "st010": _st010,
    "eol30": _eol30,
}
