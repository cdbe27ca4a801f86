"""`make bench`: every measurement, or those named; a table and build/bench.json."""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import ingest, report
from threadline.stack import Stack, open_stack


def _ingest(stack: Stack) -> list[report.Figure]:
    return asyncio.run(ingest.measure(stack.postgres.create_database("bench_ingest")))


MEASUREMENTS: dict[str, Callable[[Stack], list[report.Figure]]] = {"ingest": _ingest}


def main() -> None:
    wanted = sys.argv[1:] or list(MEASUREMENTS)
    figures: list[report.Figure] = []
    with tempfile.TemporaryDirectory() as directory, open_stack(Path(directory)) as stack:
        for name in wanted:
            figures += MEASUREMENTS[name](stack)
    report.write(figures)
    report.show(figures)


if __name__ == "__main__":
    main()
