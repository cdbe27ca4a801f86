"""`make bench`: every measurement, or those named; a table and build/bench.json."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import gateway, ingest, kafka_ingest, ledger, line, report
from threadline.stack import Stack, open_stack

MEASUREMENTS: dict[str, Callable[[Stack], list[report.Figure]]] = {
    "gateway": gateway.measure,
    "ingest": ingest.measure,
    "ledger": ledger.measure,
    "kafka_ingest": kafka_ingest.measure,
    "line": line.measure,
    "kafka_line": line.measure_through_kafka,
}


def main() -> None:
    wanted = sys.argv[1:] or list(MEASUREMENTS)
    if unknown := sorted(set(wanted) - set(MEASUREMENTS)):
        raise SystemExit(f"no measurement {unknown}; known: {', '.join(MEASUREMENTS)}")
    figures = [report.load_of_machine()]
    with tempfile.TemporaryDirectory() as directory, open_stack(Path(directory)) as stack:
        for name in wanted:
            figures += MEASUREMENTS[name](stack)
    report.write(figures)
    report.show(figures)


if __name__ == "__main__":
    main()
