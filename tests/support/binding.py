"""The four stations of tests/golden/binding and the tags of their devices."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from protocols.driver import Mode
from protocols.samples import DataType
from rules.binding.compile import compile_binding
from rules.binding.config import BindingConfig
from rules.binding.plan import Compiled, TagFacts

STATIONS = Path(__file__).parents[1] / "golden" / "binding" / "stations.yaml"
SITE = "plant1"
FAST_US = 100_000


def read_yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def stations() -> BindingConfig:
    return BindingConfig.model_validate(written_stations())


def written_stations() -> Any:
    """As somebody wrote them, for a test to change."""
    return read_yaml(STATIONS.read_text())


def without_counter(**cycle: Any) -> BindingConfig:
    """The four stations; nothing counts the presses. `cycle`: more of its keys."""
    written = written_stations()
    press_station = written["stations"][1]
    del press_station["cycle"]["key"]
    press_station["cycle"] |= cycle
    return BindingConfig.model_validate(written)


def one_station(text: str, **patterns: str) -> BindingConfig:
    """One station as YAML, with patterns."""
    return BindingConfig.model_validate({"patterns": patterns, "stations": [read_yaml(text)]})


def facts(
    kind: DataType,
    device: str,
    mode: Mode = Mode.CYCLIC,
    extent: tuple[int, int] | None = None,
    interval_us: int = FAST_US,
) -> TagFacts:
    """`extent`: lower bound and length of an array."""
    polled = mode in (Mode.CYCLIC, Mode.SUBSCRIBE)
    return TagFacts(
        kind.array if extent else kind,
        device,
        mode.value,
        mode,
        interval_us if polled else None,
        extent[0] if extent else 0,
        extent[1] if extent else None,
    )


def _mailbox(device: str, names: Mapping[str, DataType]) -> dict[str, TagFacts]:
    return {f"{device}.{name}": facts(kind, device, Mode.MAILBOX) for name, kind in names.items()}


def _polled(device: str, names: Mapping[str, DataType]) -> dict[str, TagFacts]:
    return {f"{device}.{name}": facts(kind, device) for name, kind in names.items()}


def _st010() -> dict[str, TagFacts]:
    real, whole = DataType.FLOAT32, DataType.INT16
    screws = range(1, 7)
    box = {"code": whole, "nok_code": whole, "t_low": real, "t_high": real}
    result = _mailbox("st010", {f"result.{name}": kind for name, kind in box.items()})
    for name, kind in (("torque", real), ("angle", real), ("cn", whole)):
        result[f"st010.result.{name}"] = facts(kind, "st010", Mode.MAILBOX, (1, 6))
    for screw in screws:
        for name in ("cx", "cy"):
            result[f"st010.result.{name}[{screw}]"] = facts(real, "st010", Mode.MAILBOX, (0, 4))
    polled = {
        "ready": DataType.BOOL,
        "taken": DataType.BOOL,
        "cycle_no": DataType.UINT16,
        "t_start": DataType.DATETIME,
        "t_end": DataType.DATETIME,
        "dmc": DataType.TEXT,
        "rfid": DataType.TEXT,
        "cover_dmc": DataType.TEXT,
        "program": whole,
        "master_on": DataType.BOOL,
        "setup_on": DataType.BOOL,
        "ask": DataType.BOOL,
        "answer": whole,
    }
    return _polled("st010", polled) | result


def _press() -> dict[str, TagFacts]:
    tags = _polled("p20", {"oil_temp": DataType.FLOAT32})
    for nest in ("a", "b"):
        names = {
            "clamped": DataType.BOOL,
            "done": DataType.BOOL,
            "cycle_no": DataType.INT16,
            "result": DataType.INT16,
            "nok": DataType.INT16,
            "program": DataType.INT16,
        }
        tags |= _polled("p20", {f"{nest}.{name}": kind for name, kind in names.items()})
        for name in ("way", "force"):
            tags[f"p20.{nest}.curve.{name}"] = facts(
                DataType.FLOAT32, "p20", Mode.ON_DEMAND, (0, 8)
            )
        tags[f"p20.{nest}.curve.n"] = facts(DataType.INT16, "p20", Mode.ON_DEMAND)
        tags[f"scanner20.{nest}"] = facts(DataType.TEXT, "scanner20")
        tags[f"scanner20.{nest}_no"] = facts(DataType.UINT16, "scanner20")
    return tags


def plant_tags() -> dict[str, TagFacts]:
    bits = {"scan_ready": DataType.BOOL, "scan_taken": DataType.BOOL, "scan_no": DataType.UINT16}
    feeder = _polled("f07", bits) | _mailbox(
        "f07",
        {"scan.lot": DataType.TEXT, "scan.qty": DataType.FLOAT32, "scan.at": DataType.INT64},
    )
    born = _polled(
        "st000", {"ready": DataType.BOOL, "taken": DataType.BOOL, "count": DataType.UINT16}
    ) | _mailbox(
        "st000",
        {
            "mark.dmc": DataType.TEXT,
            "mark.type": DataType.TEXT,
            "mark.order": DataType.TEXT,
            "mark.carrier": DataType.TEXT,
        },
    )
    return _st010() | _press() | feeder | born


def compiled(config: BindingConfig | None = None) -> Compiled:
    return compile_binding(config, plant_tags(), SITE) if config else _four_stations()


@cache
def _four_stations() -> Compiled:
    return compile_binding(stations(), plant_tags(), SITE)
