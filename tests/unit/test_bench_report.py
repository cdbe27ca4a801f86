"""The bench's own arithmetic: a ratio is of rounds that met each other; the file has every key."""

import json
from pathlib import Path

import pytest

from tests.bench import report


def test_a_ratio_is_the_median_of_pairs_not_the_ratio_of_medians() -> None:
    """A slow round is slow for both: beside its own peer it says nothing bad."""
    found = report.of_rounds("x", [10.0, 1.0, 9.0], "M rows/s", peer="raw", peers=[10.0, 2.0, 10.0])
    assert (found.value, found.peer_value, found.ratio) == (9.0, 10.0, 0.9)
    assert (found.n, found.spread) == (3, "1 … 10")


def test_rounds_without_their_peer_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        report.of_rounds("x", [1.0, 2.0], "s", peer="raw", peers=[1.0])


def test_the_file_holds_every_figure_with_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report.write([report.Figure("overruns", 0, "slots", goal="0", n=6000)])
    assert json.loads(report.OUTPUT.read_text()) == [
        {
            "name": "overruns", "value": 0, "unit": "slots", "peer": "", "peer_value": None,
            "ratio": None, "goal": "0", "n": 6000, "spread": "",
        }
    ]  # fmt: skip
