"""What a user writes to reach an S7 PLC. Addresses: `address.py`."""

from typing import Annotated, Literal

from pydantic import Field

from protocols.driver import Connection

TextEncoding = Literal["utf-8", "latin-1", "cp1252", "ascii"]


class S7Connection(Connection):
    """One connection of the PLC's few. S7-1200 and 1500: PUT/GET allowed, blocks not optimized."""

    protocol: Literal["s7"] = "s7"
    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65_535)] = 102
    rack: Annotated[int, Field(ge=0, le=7)] = 0
    slot: Annotated[int, Field(ge=0, le=31)] = 1  # 1 for S7-1200 and 1500, 2 for most S7-300
    connection_type: Literal["PG", "OP", "S7-basic"] = "OP"
    text_encoding: TextEncoding = "latin-1"  # of STRING and CHAR
    pdu_bytes_max: Annotated[int, Field(ge=112, le=960)] = 960  # the PLC may grant less
    items_max: Annotated[int, Field(ge=1, le=20)] = 20  # of one request
    gap_bytes: Annotated[int, Field(ge=0, le=200)] = 16  # unwanted ones read to save an item
