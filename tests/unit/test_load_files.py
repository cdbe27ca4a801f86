"""Files of masters and events: every line comes out, parsed or with its fault."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cloud.load_files import read_lines
from cloud.master_records import EVER, MASTER, Calendar, Holder
from protocols.errors import ConfigError
from protocols.events import EVENT_BYTES_MAX


def written(folder: Path, name: str, data: bytes) -> Path:
    file = folder / name
    file.write_bytes(data)
    return file


def test_a_bad_line_is_a_line_with_a_fault(tmp_path: Path) -> None:
    lines = list(read_lines(written(tmp_path, "a.jsonl", b'{"kind":"x"}\n\nno json\n{"a":1}')))
    assert [(line.number, line.said, line.fault is None) for line in lines] == [
        (1, {"kind": "x"}, True),
        (2, None, False),
        (3, None, False),
        (4, {"a": 1}, True),
    ]


def test_a_line_too_long_does_not_fill_the_memory_nor_end_the_file(tmp_path: Path) -> None:
    data = b"x" * (3 * EVENT_BYTES_MAX) + b'\n{"a":1}\n' + b" " * EVENT_BYTES_MAX + b"\n"
    lines = list(read_lines(written(tmp_path, "a.jsonl", data)))
    assert [line.said for line in lines] == [None, {"a": 1}, None]
    assert "more than" in str(lines[0].fault)


@given(st.binary(max_size=400))
def test_any_bytes_are_as_many_lines_as_they_have(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = list(read_lines(written(Path(folder), "a.jsonl", data)))
    assert len(lines) == len(data.split(b"\n")) - (not data or data.endswith(b"\n"))


def test_yaml_in_sections_and_as_a_list(tmp_path: Path) -> None:
    sections = b"""
    holders:
    - {holder: magazine, discipline: fifo}
    events:
    - {kind: state, at: 2026-03-02T06:00:00Z}
    """
    lines = list(read_lines(written(tmp_path, "a.yaml", sections)))
    assert [line.said["kind"] for line in lines] == ["holder", "state"]
    lines = list(read_lines(written(tmp_path, "b.yml", b"- {kind: holder}\n- text\n")))
    assert [line.said for line in lines] == [{"kind": "holder"}, "text"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"holders: {}", "no list"),
        (b"holder: []", "unknown section"),
        (b"just text", "no records"),
        (b"a: [", "no YAML"),
        (b"\xff\xfe", "decode"),
    ],
)
def test_a_yaml_file_that_cannot_be_used_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        list(read_lines(written(tmp_path, "a.yaml", data)))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        list(read_lines(tmp_path / "nowhere.jsonl"))


def test_a_master_without_a_time_holds_from_ever() -> None:
    record = MASTER.validate_python({"kind": "holder", "holder": "magazine"})
    assert isinstance(record, Holder)
    assert record.valid_from == EVER


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"kind": "holder", "holder": "f", "discipline": "lifo"}, "discipline"),
        ({"kind": "holder", "holder": "f", "colour": "red"}, "colour"),
        ({"kind": "holder", "holder": "f\x00"}, "holder"),
        ({"kind": "holder", "holder": "f", "valid_from": "2026-01-01T00:00:00"}, "valid_from"),
        ({"kind": "bom", "material": "A", "child": "B", "qty": 0}, "qty"),
        ({"kind": "calendar", "site": "s", "zone": "Mars/Base", "shifts": []}, "zone"),
        ({"kind": "calendar", "site": "s", "zone": "../etc/passwd", "shifts": []}, "zone"),
        (
            {
                "kind": "calendar",
                "site": "s",
                "zone": "UTC",
                "shifts": [{"name": "early", "start": "6"}],
            },
            "start",
        ),
    ],
)
def test_a_wrong_master_names_its_field(record: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        MASTER.validate_python(record)
    assert field in {str(part) for one in refused.value.errors() for part in one["loc"]}


def test_two_shifts_at_one_time_are_refused() -> None:
    shift = {"name": "early", "start": "06:00"}
    with pytest.raises(ValidationError, match="same time"):
        Calendar.model_validate(
            {"kind": "calendar", "site": "s", "zone": "UTC", "shifts": [shift, shift]}
        )
