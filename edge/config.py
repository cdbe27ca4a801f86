"""The agent's YAML file as frozen types: what a user writes, and nothing of what becomes of it.

Unknown keys are mistakes. Whether names, addresses and files fit together is `check`'s to say.
Additive only: a key that was read once keeps its meaning.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

from protocols.driver import Mode
from protocols.frames import AGENT_PATTERN
from protocols.registry import AnyConnection
from protocols.samples import DataType
from rules.binding.config import StationConfig
from rules.conditioning import Report
from rules.durations import Duration

INTERVAL_MIN: Final = timedelta(milliseconds=100)
PATH_BYTES_MAX: Final = 255  # of a tag, UTF-8
MIB: Final = 1024 * 1024
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_SIZE_UNITS: Final = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}


def _sized(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            "is not a size. Write a number and one of B kB MB GB KiB MiB GiB, like 512MiB."
        )
    return int(float(found[1]) * _SIZE_UNITS[found[2] or "B"])


def _agent(text: str) -> str:
    if not AGENT_PATTERN.fullmatch(text):
        raise ValueError("is not 1 to 63 of a-z 0-9 . and -. Write site.name, like plant1.line1.")
    site, dot, name = text.partition(".")
    if not (site and dot and name):
        raise ValueError("has no site. Write site.name, like plant1.line1.")
    return text


def _interval(value: timedelta) -> timedelta:
    if value < INTERVAL_MIN:
        raise ValueError("is shorter than 100ms. Write 100ms or more.")
    return value


def _roomy(size: int) -> int:
    if size < 16 * MIB:
        raise ValueError("is too little for a busy line. Give 16MiB or more.")
    return size


ByteSize = Annotated[
    int,
    BeforeValidator(_sized),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": f"^{_SIZE.pattern}$"},
            ],
            "examples": ["512MiB", "1GiB"],
        }
    ),
]
Interval = Annotated[Duration, AfterValidator(_interval)]
AgentId = Annotated[str, AfterValidator(_agent)]
DeviceName = Annotated[str, Field(pattern=r"^[\w-]+$", max_length=64)]
TagName = Annotated[str, Field(pattern=r"^[\w-]+(\.[\w-]+)*(\[-?\d+\])?$", max_length=200)]
GroupName = Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=64)]
PatternText = Annotated[str, Field(min_length=1, max_length=2000)]
Place = Annotated[str, Field(max_length=200)]


class Section(BaseModel):
    """Base of every part of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TagConfig(Section):
    """One tag; a plain text in the file is its address."""

    address: Annotated[str, Field(min_length=1, max_length=1024)]
    type: DataType | None = None
    unit: Annotated[str, Field(max_length=64)] = ""
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    description: Annotated[str, Field(max_length=1000)] = ""
    report: Report | None = None
    was: Annotated[str | None, Field(description="The tag's former path.")] = None
    station: Place | None = None
    nest: Place | None = None

    @model_validator(mode="before")
    @classmethod
    def _address_alone(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: Any, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        whole = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [{"type": "string", "minLength": 1, "title": "Address"}, whole]}


class GroupConfig(Section):
    """Tags that are read together. `cyclic` needs no mode; the others are read when asked for."""

    mode: Mode = Mode.CYCLIC
    interval: Interval | None = None
    report: Report | None = None
    station: Place | None = None
    nest: Place | None = None
    tags: Annotated[dict[TagName, TagConfig], Field(min_length=1)]


class DeviceConfig(Section):
    """One role (a PLC, or a part of one) and how it is reached."""

    connection: AnyConnection
    report: Report | None = None
    station: Place | None = None
    nest: Place | None = None
    groups: Annotated[dict[GroupName, GroupConfig], Field(min_length=1)]


class UplinkConfig(Section):
    """The broker. Files are relative to the agent's file."""

    url: Annotated[str, Field(pattern=r"^mqtts?://[^/\s:]+(:[0-9]{1,5})?/?$")]
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: Annotated[
        SecretStr | None, Field(description="Better from the environment: EDGE_UPLINK_PASSWORD.")
    ] = None
    password_env: Annotated[
        str | None, Field(description="Name of the environment variable that holds it.")
    ] = None
    keepalive: Duration = timedelta(seconds=15)

    @property
    def tls(self) -> bool:
        return self.url.startswith("mqtts:")

    @property
    def host(self) -> str:
        return self._netloc.partition(":")[0]

    @property
    def port(self) -> int:
        port = self._netloc.partition(":")[2]
        return int(port) if port else 8883 if self.tls else 1883

    @property
    def _netloc(self) -> str:
        return self.url.partition("://")[2].rstrip("/")


class SpoolConfig(Section):
    """Where frames wait until they are stored. `path` is a folder of this agent alone."""

    path: Path = Path("spool")
    max_bytes: Annotated[ByteSize, AfterValidator(_roomy)] = 1024 * MIB
    max_age: Duration = timedelta(days=30)
    keep_stored: Duration = timedelta(hours=24)
    logged_expires: Annotated[
        Duration, Field(description="Half of what the log behind the gateway keeps.")
    ] = timedelta(hours=84)
    overflow: Literal["drop_oldest"] = "drop_oldest"


class MetricsConfig(Section):
    """Prometheus endpoint; absent: none."""

    listen: Annotated[str, Field(pattern=r"^[^:\s]*:[0-9]{1,5}$")] = "127.0.0.1:9464"

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host or "0.0.0.0", int(port)  # noqa: S104 - an empty host says so in the file


class StatusConfig(Section):
    """Local socket of `edge status`; by default `status.sock` in the spool's folder."""

    socket: Path | None = None


class EdgeConfig(Section):
    """One agent: its devices, its stations, its way up."""

    agent: AgentId
    line: Annotated[str, Field(max_length=64)] = ""
    zone: Annotated[str, Field(min_length=1, description="IANA zone of the site.")] = "UTC"
    report: Report | None = None
    devices: dict[DeviceName, DeviceConfig]
    patterns: dict[str, PatternText] = Field(default_factory=dict)
    stations: tuple[StationConfig, ...] = ()
    uplink: UplinkConfig
    spool: SpoolConfig = SpoolConfig()
    metrics: MetricsConfig | None = None
    status: StatusConfig = StatusConfig()

    @property
    def site(self) -> str:
        """The agent's id up to the first dot."""
        return self.agent.partition(".")[0]

    @property
    def socket(self) -> Path:
        return self.status.socket or self.spool.path / "status.sock"
