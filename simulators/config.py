"""The plant file: its types, how it is read, and every mistake in it at once.

Owns nothing at run time. A file is valid as a whole before anything listens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from simulators.catalogue import devices_of_line

Station = Literal["ST000", "WIND10", "F07-LOAD", "ROTOR15", "PRESS20", "ST010", "EOL30"]
STATIONS: tuple[Station, ...] = (
    "ST000",
    "WIND10",
    "F07-LOAD",
    "ROTOR15",
    "PRESS20",
    "ST010",
    "EOL30",
)
Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
UnitNumber = Annotated[int, Field(ge=1)]

_CYCLES_S: dict[Station, Range] = {
    "ST000": (1.6, 2.2),
    "WIND10": (2.4, 3.0),
    "ROTOR15": (2.0, 2.8),
    "PRESS20": (4.4, 5.6),
    "ST010": (2.6, 3.2),
    "EOL30": (2.2, 3.0),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a plant file: where, the value found, why and what to do."""

    path: str
    value: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem} (found: {self.value})"


class PlantFileError(Exception):
    """The file cannot work; `mistakes` names all of them."""

    def __init__(self, file: Path, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(f"{file}: {mistake}" for mistake in mistakes))
        self.mistakes = mistakes


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class S7Controller(_Frozen):
    """A PLC that speaks S7 communication over ISO-on-TCP."""

    protocol: Literal["s7"]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    rack: Annotated[int, Field(ge=0, le=7)] = 0
    slot: Annotated[int, Field(ge=0, le=31)] = 1
    pdu_bytes: Annotated[int, Field(ge=112, le=960)] = 480
    clock_offset_s: float = 0.0


class ModbusController(_Frozen):
    """A PLC that speaks Modbus TCP; its units are devices."""

    protocol: Literal["modbus"]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    clock_offset_s: float = 0.0


class OpcuaController(_Frozen):
    """A PLC with an OPC UA server, without security."""

    protocol: Literal["opcua"]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    namespace: Annotated[str, Field(min_length=1)]
    nodes_per_read: Annotated[int, Field(ge=1, le=10_000)] = 1000
    clock_offset_s: float = 0.0


Controller = Annotated[
    S7Controller | ModbusController | OpcuaController, Field(discriminator="protocol")
]


class DeviceConfig(_Frozen):
    """A role on a controller: a unit of Modbus, data blocks of S7, nodes of OPC UA."""

    controller: str
    unit: Annotated[int, Field(ge=1, le=247)] | None = None
    order: Literal["ABCD", "CDAB", "BADC", "DCBA"] | None = None
    block: Annotated[int, Field(ge=1, le=65_000)] | None = None
    analog: Annotated[int, Field(ge=0, le=10_000)] = 0
    types: bool = False


class ReelConfig(_Frozen):
    """How often the copper reel of feeder F07 is changed."""

    units: Annotated[int, Field(ge=1)] = 12
    quantity_kg: Annotated[float, Field(gt=0)] = 40.0


class LateScanConfig(_Frozen):
    """Reel number `reel` is scanned only after `units` more units were wound."""

    reel: Annotated[int, Field(ge=1)]
    units: Annotated[int, Field(ge=1)]


class TroubleConfig(_Frozen):
    """What goes wrong, by number of unit (from 1); `every` repeats the pattern."""

    every: Annotated[int, Field(ge=1)] | None = None
    late_scan: tuple[LateScanConfig, ...] = ()
    rework: tuple[UnitNumber, ...] = ()
    scrap: tuple[UnitNumber, ...] = ()
    no_read: dict[Literal["WIND10", "PRESS20", "ST010"], tuple[UnitNumber, ...]] = {}
    stale: dict[Literal["WIND10", "PRESS20", "ST010"], tuple[UnitNumber, ...]] = {}
    master: tuple[UnitNumber, ...] = ()
    setup: tuple[UnitNumber, ...] = ()


class ProductionConfig(_Frozen):
    """How the line lives; `speed` 2 halves every time."""

    material: Annotated[str, Field(pattern=r"^\w{1,12}$")] = "EDU4711A"
    issuer: Annotated[str, Field(pattern=r"^\w{1,8}$")] = "TLD"
    speed: Annotated[float, Field(gt=0, le=20)] = 1.0
    units: Annotated[int, Field(ge=1)] | None = None
    carriers: Annotated[int, Field(ge=6, le=999)] = 12
    handshake_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    plc_scan_s: Annotated[float, Field(gt=0, le=1)] = 0.01
    cycle_s: dict[Station, Range] = _CYCLES_S
    count_start: dict[Station, Annotated[int, Field(ge=0, le=65_535)]] = {}
    reel: ReelConfig = ReelConfig()
    troubles: TroubleConfig = TroubleConfig()

    @field_validator("cycle_s")
    @classmethod
    def _ordered(cls, ranges: dict[Station, Range]) -> dict[Station, Range]:
        for station, (low, high) in ranges.items():
            if high < low:
                raise ValueError(f"{station}: write the shorter time first")
        return {**_CYCLES_S, **ranges}


class PlantConfig(_Frozen):
    """A whole plant file."""

    site: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    line: Annotated[str, Field(pattern=r"^[\w-]{1,32}$")]
    zone: str = "UTC"
    seed: int = 1
    controllers: dict[str, Controller]
    devices: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")], DeviceConfig]
    production: ProductionConfig | None = None

    @field_validator("zone")
    @classmethod
    def _zone_known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise ValueError("not an IANA time zone, write one like Europe/Berlin") from exc
        return zone

    @model_validator(mode="after")
    def _fits(self) -> "PlantConfig":
        problems = [*_device_problems(self), *_overlaps(self), *_line_problems(self)]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def read_plant_file(file: Path) -> PlantConfig:
    """Returns the valid plant.

    Raises:
        PlantFileError: The file is missing, is no YAML, or cannot work.
    """
    try:
        return PlantConfig.model_validate(_load(file))
    except ValidationError as exc:
        raise PlantFileError(file, [_mistake(error) for error in exc.errors()]) from exc


def _load(file: Path) -> Any:  # whatever YAML holds; pydantic judges it
    try:
        return YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise PlantFileError(file, [Mistake("file", str(file), exc.strerror or str(exc))]) from exc
    except (YAMLError, UnicodeDecodeError) as exc:
        raise PlantFileError(file, [Mistake("file", str(file), f"no YAML: {exc}")]) from exc


def _mistake(error: Any) -> Mistake:  # pydantic's own dictionary
    path = ".".join(str(part) for part in error["loc"]) or "plant"
    found = error["input"]
    value = "a section" if isinstance(found, dict | BaseModel) else repr(found)
    problem = "unknown key, remove it" if error["type"] == "extra_forbidden" else error["msg"]
    return Mistake(path, value, problem)


_OWN_KEYS = {"modbus": {"unit", "order"}, "s7": {"block"}, "opcua": set[str]()}


def _device_problems(plant: PlantConfig) -> Iterator[str]:
    for name, device in plant.devices.items():
        controller = plant.controllers.get(device.controller)
        if controller is None:
            known = ", ".join(plant.controllers)
            yield f"devices.{name}.controller: no controller {device.controller!r}, known: {known}"
            continue
        for key in ("unit", "order", "block"):
            if getattr(device, key) is not None and key not in _OWN_KEYS[controller.protocol]:
                yield f"devices.{name}.{key}: means nothing to {controller.protocol}, remove it"
        if controller.protocol == "s7" and device.block is None:
            yield f"devices.{name}.block: number of the first data block is missing"


def _overlaps(plant: PlantConfig) -> Iterator[str]:
    taken: dict[tuple[str, int], str] = {}
    for name, device in plant.devices.items():
        for number in _numbers(device):
            other = taken.setdefault((device.controller, number), name)
            if other != name:
                yield (
                    f"devices.{name}: unit or block {number} of {device.controller} "
                    f"belongs to {other}, choose another (a device takes three blocks)"
                )


def _numbers(device: DeviceConfig) -> range:
    """Unit of Modbus, or the three data blocks of S7; an OPC UA device takes none."""
    if device.block is not None:
        return range(device.block, device.block + 3)
    return range(device.unit, device.unit + 1) if device.unit is not None else range(0)


def _line_problems(plant: PlantConfig) -> Iterator[str]:
    if plant.production is None:
        return
    for name in devices_of_line():
        if name not in plant.devices:
            yield f"devices.{name}: the line needs this device, add it or remove `production`"
