"""What is fetched once: whole or absent, made by whoever comes first."""

from pathlib import Path

import pytest

from threadline.caches import cached, is_cached


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "threadline"


def fill(into: Path) -> None:
    (into / "jar").write_text("whole")


def test_it_is_made_once(cache: Path) -> None:
    assert not is_cached("kafka-1")
    assert cached("kafka-1", fill) == cache / "kafka-1"
    assert is_cached("kafka-1")

    def never(_: Path) -> None:
        raise AssertionError("made again")

    assert (cached("kafka-1", never) / "jar").read_text() == "whole"


def test_what_fails_half_way_leaves_nothing(cache: Path) -> None:
    def fail(into: Path) -> None:
        fill(into)
        raise OSError("the network is gone")

    with pytest.raises(OSError, match="network"):
        cached("kafka-1", fail)
    assert not is_cached("kafka-1")
    assert list(cache.iterdir()) == []


def test_a_run_that_was_faster_is_taken(cache: Path) -> None:
    def slow(into: Path) -> None:
        fill(into)
        (cache / "kafka-1").mkdir()
        (cache / "kafka-1" / "jar").write_text("of the faster")

    assert (cached("kafka-1", slow) / "jar").read_text() == "of the faster"
    assert [one.name for one in cache.iterdir()] == ["kafka-1"]
