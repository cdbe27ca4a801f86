"""The agent's file: every mistake at once with place, value and remedy; what is laid over it."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from edge.check import Checked, check, socket_of
from edge.told import checked_as_json, checked_text
from protocols.errors import ConfigError
from rules.conditioning import On
from tests.support.certificates import Authority, Pair

HUSH = "hush"
EXAMPLE = Path(__file__).parents[2] / "edge" / "examples" / "edrive.yaml"
GOLDEN = Path(__file__).parents[1] / "golden" / "edge"
SOUND = """\
agent: plant1.line1
line: L1
zone: Europe/Berlin
report: {on: change, deadband: {absolute: 2}, max_time: 1m}
devices:
  w10:
    connection: {protocol: modbus, host: 192.168.0.10}
    groups:
      fast:
        interval: 100ms
        tags:
          running: "discrete:0:bool"
          cycle_no: {address: "holding:0:uint16", report: {on: received}}
          speed: {address: "input:0:float32", unit: "1/min", scale: 0.1}
          name: "holding:40:text[20]"
          zones: "holding:100:int16[1..6]"
      slow:
        interval: 1s
        report: {on: off}
        station: L1/WIND10
        tags: {hours: "holding:20:uint32"}
      curve:
        mode: on_demand
        tags: {way: "holding:1000:float32[50]"}
uplink: {url: "mqtt://broker"}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "agent.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def refused(file: Path, environment: dict[str, str] | None = None, *options: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        check(file, environment, options)
    return [str(problem) for problem in raised.value.problems]


@pytest.fixture
def sound(tmp_path: Path) -> Checked:
    return check(written(tmp_path, SOUND))


def test_every_mistake_is_told_at_once_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    expected = (GOLDEN / "mistakes.txt").read_text(encoding="utf-8").splitlines()
    assert refused(Path("mistakes.yaml")) == expected


def test_a_group_to_subscribe_to_is_polled_and_its_silences_show(tmp_path: Path) -> None:
    """Else an end after a silence could be taken for the end of another cycle."""
    station = """
stations:
- station: L1/W10
  cycle:
    start: {edge: w10.running}
    end: {edge: w10.running, to: false}
    key: {count: w10.cycle_no, modulus: 65536}
"""
    text = SOUND.replace("interval: 100ms", "interval: 100ms\n        mode: subscribe") + station
    (nest,) = check(written(tmp_path, text)).plan.binding.nests
    assert {source.silence_us for source in nest.sources} == {500_000}


def test_a_sound_file_becomes_a_plan(sound: Checked) -> None:
    (device,) = sound.plan.devices
    assert [(group.name, group.interval_s) for group in device.groups] == [
        ("fast", 0.1),
        ("slow", 1.0),
    ]
    paths = [tag.path for tag in device.groups[0].plan.tags]
    assert paths[:3] == ["w10.running", "w10.cycle_no", "w10.speed"]
    assert paths[4:] == [f"w10.zones[{n}]" for n in range(1, 7)], "arrays from their lower bound"
    assert device.groups[0].plan.requests == 5, "gaps up to 16 registers are read along"
    assert device.writable == {}, "no station writes here"
    assert [test.group for test in sound.plan.tests] == ["fast", "slow", "curve"]


def test_reports_are_inherited_tag_before_group_before_agent(sound: Checked) -> None:
    reports = sound.plan.reports
    assert reports["w10.cycle_no"].on is On.RECEIVED
    assert reports["w10.hours"].on is On.OFF
    assert reports["w10.speed"].deadband is not None
    assert reports["w10.name"].deadband is None, "an inherited deadband is not meant for text"
    assert reports["w10.name"].max_time is not None


def test_a_tag_declares_what_the_file_says_of_it(sound: Checked) -> None:
    facts = sound.plan.facts["w10.speed"]
    assert (facts.unit, facts.scale, facts.address) == ("1/min", 0.1, "input:0:float32")
    assert facts.report == {"on": "change", "deadband": {"absolute": 2.0}, "max_time": "1m"}
    assert sound.plan.facts["w10.hours"].station == "L1/WIND10"


def test_paths_are_meant_from_the_files_folder(tmp_path: Path) -> None:
    checked = check(written(tmp_path, SOUND))
    assert checked.config.spool.path == tmp_path / "spool"
    assert checked.config.socket == tmp_path / "spool" / "status.sock"
    assert socket_of(tmp_path / "agent.yaml", {}) == checked.config.socket


def test_what_is_weaker_than_one_may_think_is_noted(sound: Checked) -> None:
    notes = [str(note) for note in sound.notes]
    assert any("identity is unproven" in note for note in notes)
    assert any("is not encrypted" in note for note in notes)


def test_command_line_goes_before_environment_before_file(tmp_path: Path) -> None:
    file = written(tmp_path, SOUND)
    environment = {"EDGE_UPLINK_URL": "mqtt://second:2883", "EDGE_DEVICE_W10_HOST": "10.0.0.2"}
    checked = check(file, environment)
    assert checked.config.uplink.host == "second"
    assert checked.config.devices["w10"].connection.model_dump()["host"] == "10.0.0.2"
    checked = check(file, environment, ["uplink.url=mqtt://third", "spool.max_bytes=64MiB"])
    assert checked.config.uplink.host == "third"
    assert checked.config.spool.max_bytes == 64 * 1024 * 1024


def test_a_secret_comes_from_the_environment(tmp_path: Path) -> None:
    named = SOUND.replace(
        '"mqtt://broker"', '"mqtt://broker", username: agent, password_env: EDGE_SECRET'
    )
    file = written(tmp_path, named)
    assert check(file, {"EDGE_SECRET": "hush"}).password == HUSH
    assert refused(file) == [
        (
            f"{file}:25: uplink.password_env = EDGE_SECRET: "
            "is not set in the environment. Set EDGE_SECRET."
        )
    ]
    plain = written(tmp_path, SOUND)
    options = ["uplink.username=agent"]
    assert check(plain, {"EDGE_UPLINK_PASSWORD": "hush"}, options).password == HUSH


def test_an_unknown_variable_is_a_mistake(tmp_path: Path) -> None:
    file = written(tmp_path, SOUND)
    environment = {"EDGE_UPLNK_URL": "x", "EDGE_DEVICE_W11_HOST": "x", "PATH": "/bin"}
    assert refused(file, environment) == [
        (
            "environment EDGE_DEVICE_W11_HOST: is not a variable of the agent. "
            "Write EDGE_DEVICE_<NAME>_<OPTION> with the name of a configured device."
        ),
        "environment EDGE_UPLNK_URL: is not a variable of the agent. Did you mean EDGE_UPLINK_URL?",
    ]


def test_a_mistake_from_outside_names_where_it_came_from(tmp_path: Path) -> None:
    file = written(tmp_path, SOUND)
    said = refused(file, {"EDGE_DEVICE_W10_PORT": "many"}, "zone=Mars", "nonsense")
    assert sorted(said) == [
        "command line --set = nonsense: is not path=value. Like uplink.url=mqtt://…",
        "command line --set zone: zone = Mars: is not an IANA zone. Write one like Europe/Berlin.",
        (
            "environment EDGE_DEVICE_W10_PORT: devices.w10.connection.port = many: "
            "is not a whole number. Write a whole number."
        ),
    ]


def test_no_message_shows_a_password(tmp_path: Path) -> None:
    text = SOUND.replace('"mqtt://broker"', '"mqtt://broker", password: [hush]')
    assert not any("hush" in line for line in refused(written(tmp_path, text)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent: [1, 2", "is not YAML"),
        ("a: 1\n\tb: 2", "is not YAML"),
        ("just text", "is not a mapping of keys to values"),
        ("agent: a.b\nline: x\nagent: a.c\nline: y", "agent: stands twice"),
        ("", "agent: is missing"),
        ("a: &a [*a]", "too deep"),
        ("a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]", "is not a known key"),
    ],
)
def test_a_file_that_is_no_agents_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert any(said in line for line in refused(written(tmp_path, text)))


def test_aliases_of_aliases_are_bounded(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases" in refused(written(tmp_path, "\n".join(lines)))[0]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "none.yaml")[0]
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"agent: plant1.stra\xdfe")
    assert "is not UTF-8 at byte 18" in refused(file)[0]


def test_a_certificate_that_is_no_pem_is_refused(tmp_path: Path) -> None:
    for name in ("ca.pem", "agent.pem", "agent.key"):
        (tmp_path / name).write_text("not a certificate", encoding="ascii")
    text = SOUND.replace(
        '{url: "mqtt://broker"}',
        '{url: "mqtts://broker", ca: ca.pem, certificate: agent.pem, key: agent.key}',
    )
    said = refused(written(tmp_path, text))
    assert any("uplink.ca" in line and "holds no certificate" in line for line in said)
    assert any("uplink.certificate" in line and "does not fit its key" in line for line in said)


def test_a_certificate_of_somebody_else_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine, other = authority.issue("plant1.line1"), authority.issue("plant1.line2")

    def with_pair(pair: Pair) -> Path:
        uplink = {"ca": authority.certificate, "certificate": pair.certificate, "key": pair.key}
        files = ", ".join(f"{key}: {path.name}" for key, path in uplink.items())
        return written(tmp_path, SOUND.replace('"mqtt://broker"', f'"mqtts://broker", {files}'))

    (said,) = refused(with_pair(other))
    assert "uplink.certificate" in said
    assert str(other.certificate) in said
    assert "names 'plant1.line2' (CN), but this agent is 'plant1.line1'" in said
    assert "Use the certificate issued to plant1.line1" in said
    assert not any("unproven" in one.why for one in check(with_pair(mine)).notes)
    assert any("unproven" in one.why for one in check(written(tmp_path, SOUND)).notes)


def test_a_socket_path_that_no_system_takes_is_refused(tmp_path: Path) -> None:
    said = refused(written(tmp_path, SOUND), {}, f"status.socket=/run/{'x' * 120}")
    assert "a socket's path at most 107" in said[0]


def test_a_sound_file_ends_with_what_happens_when() -> None:
    checked = check(EXAMPLE)
    text = checked_text(Path("edrive.yaml"), checked)
    first, *_ = text.splitlines()
    assert first.startswith("edrive.yaml: plant1.line1: 8 devices, 17 groups")
    for station in ("L1/ST000", "L1/PRESS20", "L1/EOL30"):
        assert f"\n\n{station}\n" in text
    assert "the link is down" in text.splitlines()[-2] + text.splitlines()[-1]
    told = checked_as_json(checked)
    assert set(told["stations"]) == {nest.station for nest in checked.plan.binding.nests}


def test_an_element_and_a_tag_cannot_share_a_path(tmp_path: Path) -> None:
    text = SOUND.replace("tags: {hours:", 'tags: {"zones[3]": "holding:500:int16", hours:')
    said = refused(written(tmp_path, text))
    assert ["is also an element of a polled array" in line for line in said] == [True]


def test_a_devices_files_are_meant_from_the_files_folder(tmp_path: Path) -> None:
    secure = """connection:
      protocol: opcua
      url: "opc.tcp://plc:4840"
      security_policy: Basic256Sha256
      certificate: own.pem
      key: own.key
      server_certificate: plc.pem"""
    text = SOUND.replace("connection: {protocol: modbus, host: 192.168.0.10}", secure)
    said = [line for line in refused(written(tmp_path, text)) if "connection" in line]
    assert len(said) == 3
    (tmp_path / "own.pem").write_text("", encoding="ascii")
    said = [line for line in refused(written(tmp_path, text)) if "connection" in line]
    assert len(said) == 2


RAW: dict[str, Any] = YAML(typ="safe", pure=True).load(SOUND)


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _places(value, (*path, key))


PLACES = list(_places(RAW))
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x", 0, -1, 1e300, True, [], {}, [[]], {"a": 1}, {1: 2}, "100ms", "€", "{x}"]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=4))
def test_any_damage_is_told_or_taken(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[tuple[Any, ...], Any]]
) -> None:
    data = copy.deepcopy(RAW)
    for path, value in damage:
        here: Any = data
        for key in path[:-1]:
            here = here.get(key) if isinstance(here, dict) else None
        if isinstance(here, dict):
            here[path[-1]] = copy.deepcopy(value)
    file = tmp_path_factory.mktemp("damaged") / "agent.yaml"
    with file.open("w", encoding="utf-8") as out:
        YAML(typ="safe", pure=True).dump(data, out)
    try:
        check(file)
    except ConfigError as error:
        told = error.problems
    else:
        return
    assert told
    assert all(problem.why and problem.remedy for problem in told)


def test_the_example_of_the_simulated_plant_is_sound() -> None:
    checked = check(EXAMPLE)
    tags = {tag.path: tag for read in checked.plan.tests for tag in read.plan.tags}
    raw = [path for path in tags if ".raw." in path]
    assert len(raw) >= 60, "every conditioned analogue tag has a twin that is not"
    for path in raw:
        twin = tags[path.replace(".raw.", ".")]
        assert tags[path].address == twin.address
    named = {nest.station for nest in checked.plan.binding.nests}
    assert len(named) == 7
    assert {path for device in checked.plan.devices for path in device.writable} == {
        "st000.taken",
        "f07.scan_taken",
        "r15.taken",
        "st010.taken",
        "eol30.taken",
    }
