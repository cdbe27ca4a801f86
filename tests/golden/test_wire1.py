"""What wire 1 once wrote is read for ever: golden frames never change, and say the same."""

import hashlib
import json
from collections.abc import Callable

import pytest

from protocols import codec, events, notices
from protocols.frames import Frame, Kind, Newer, split
from protocols.receipts import decode_receipt
from tests.support import wire1

NAMES = [name for name, _ in wire1.frames()]


def golden(name: str) -> Frame:
    frame = split((wire1.FOLDER / f"{name}.frame").read_bytes())
    assert not isinstance(frame, Newer)
    return frame


def test_every_kind_has_its_golden_frame() -> None:
    assert {golden(name).header.kind for name in NAMES} == set(Kind)


def test_no_golden_file_was_rewritten() -> None:
    listed = (wire1.FOLDER / "SHA256SUMS").read_text().split("\n")
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in wire1.FOLDER.iterdir()
        if path.suffix in (".frame", ".json")
    }
    assert found == {
        name: stated for stated, _, name in (one.partition("  ") for one in listed if one)
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_frame_says_what_it_said(name: str) -> None:
    expected = json.loads((wire1.FOLDER / f"{name}.json").read_text())
    assert json.loads(json.dumps(wire1.seen(golden(name)))) == expected


@pytest.mark.parametrize(("name", "make"), list(wire1.frames()))
def test_today_says_the_same(name: str, make: Callable[[], Frame]) -> None:
    assert (
        json.loads(json.dumps(wire1.seen(make())))["payload"]
        == json.loads(json.dumps(wire1.seen(golden(name))))["payload"]
    )


def test_golden_json_reads_into_its_types() -> None:
    for line in codec.decode_lines(codec.payload_of(golden("events"))):
        assert json.loads(events.encode_line(events.decode_event(line))) == json.loads(line)
    kinds: dict[str, type[notices.Notice]] = {
        "tags": notices.TagLine, "outage": notices.Outage, "release": notices.Release,
        "drop": notices.Drop, "hello": notices.Hello, "status": notices.Status,
    }  # fmt: skip
    for name, kind in kinds.items():
        for line in codec.decode_lines(codec.payload_of(golden(name))):
            assert notices.encode_notice(notices.decode_notice(kind, line)) == line
    (line,) = codec.decode_lines(codec.payload_of(golden("receipt")))
    assert decode_receipt(line) == wire1._receipt()
