"""Sample rows as CSV or Arrow. Values are text: one column holds what one type cannot."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from cloud.queries.samples import SampleRow

CSV_TYPE: Final = "text/csv"
ARROW_TYPE: Final = "application/vnd.apache.arrow.stream"
_TIME: Final = pa.timestamp("us", tz="UTC")
_SCHEMA: Final = pa.schema(
    [
        ("time", _TIME),
        ("path", pa.utf8()),
        ("type", pa.utf8()),
        ("value", pa.utf8()),
        ("quality", pa.uint32()),
        ("code", pa.uint32()),
        ("agent_time", _TIME),
        ("device_time", _TIME),
    ]
)


def csv_text(rows: Sequence[SampleRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_SCHEMA.names)
    writer.writerows(_plain(row) for row in rows)
    return text.getvalue()


def arrow_stream(rows: Sequence[SampleRow]) -> bytes:
    table = pa.Table.from_pylist(
        [dict(zip(_SCHEMA.names, _plain(row), strict=True)) for row in rows], schema=_SCHEMA
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _plain(row: SampleRow) -> tuple[Any, ...]:
    value = None if row.value is None else str(row.value)
    times = (row.agent_time, row.device_time)
    return (row.time, row.path, row.type.value, value, row.quality, row.code, *times)
