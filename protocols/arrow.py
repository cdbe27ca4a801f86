"""One record batch as an Arrow IPC stream, and back from bytes that nobody vouches for.

Rule 1: a stream is a schema, at most one dictionary, exactly one record batch, and its end.
Rule 2: nothing is read that declares its own compression: 6 kB could take 200 MB.
Rule 3: what is read is validated in full: an offset that lies ends a process otherwise.
"""

import struct
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from protocols.errors import Rejected

FIELDS_MAX: Final = 64
_MESSAGES: Final = (["schema", "record batch"], ["schema", "dictionary", "record batch"])
_HEADER: Final = 2  # field of flatbuffer table Message
_DICTIONARY_DATA: Final = 1  # of DictionaryBatch
_COMPRESSION: Final = 3  # of RecordBatch
_OFFSET: Final = struct.Struct("<i")
_UOFFSET: Final = struct.Struct("<I")
_VOFFSET: Final = struct.Struct("<H")


def write(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def read(raw: bytes, allowed: Mapping[str, pa.DataType] | None) -> pa.RecordBatch:
    """The one batch. `allowed`: known columns and their types; None: every column is float64.

    Unknown columns are dropped. Rejected: anything that `write` of a minor version would not write.
    """
    try:
        _check_messages(raw)
        with pa.ipc.open_stream(pa.py_buffer(raw)) as reader:
            _check_schema(reader.schema, allowed)
            batch = reader.read_next_batch()
            batch.validate(full=True)
    except (pa.ArrowException, StopIteration, OSError, UnicodeError, struct.error) as error:
        raise Rejected(f"not an Arrow stream: {error}") from error
    if allowed is None:
        return batch
    return batch.select([name for name in batch.schema.names if name in allowed])


def _check_messages(raw: bytes) -> None:
    kinds: list[str] = []
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(raw))
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            break
        kinds.append(message.type)
        if len(kinds) > len(_MESSAGES[-1]):
            raise Rejected("Arrow stream of more than one batch")
        _check_plain(message.type, message.metadata.to_pybytes())
    if kinds not in _MESSAGES:
        raise Rejected(f"Arrow stream of {kinds}, not one batch")


def _check_plain(kind: str, metadata: bytes) -> None:
    """Refuse a batch whose metadata names a compression; the library verified the flatbuffer."""
    if kind == "schema":
        return
    (root,) = _UOFFSET.unpack_from(metadata)
    table = _table(metadata, root, _HEADER)
    if kind == "dictionary" and table is not None:
        table = _table(metadata, table, _DICTIONARY_DATA)
    if table is None:
        raise Rejected("Arrow message without a header")
    if _slot(metadata, table, _COMPRESSION):
        raise Rejected("Arrow batch declares its own compression")


def _slot(metadata: bytes, table: int, field: int) -> int:
    """Offset of a field inside its table, 0 where it is absent."""
    (back,) = _OFFSET.unpack_from(metadata, table)
    vtable = table - back
    (size,) = _VOFFSET.unpack_from(metadata, vtable)
    at = 4 + 2 * field
    return int(_VOFFSET.unpack_from(metadata, vtable + at)[0]) if at + 2 <= size else 0


def _table(metadata: bytes, table: int, field: int) -> int | None:
    slot = _slot(metadata, table, field)
    if not slot:
        return None
    (forward,) = _UOFFSET.unpack_from(metadata, table + slot)
    return int(table + slot + forward)


def _check_schema(schema: pa.Schema, allowed: Mapping[str, pa.DataType] | None) -> None:
    if len(schema) > FIELDS_MAX:
        raise Rejected(f"Arrow stream of {len(schema)} columns, at most {FIELDS_MAX}")
    if len(set(schema.names)) != len(schema):
        raise Rejected("Arrow stream names a column twice")
    for field in schema:
        wanted = pa.float64() if allowed is None else allowed.get(field.name)
        if wanted is None and _is_plain(field.type):
            continue
        if field.type != wanted:
            raise Rejected(f"column {field.name} is {field.type}, not {wanted or 'a plain type'}")


def _is_plain(kind: pa.DataType) -> bool:
    """Types that a later minor version may add as a column."""
    return bool(pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_binary(kind))
