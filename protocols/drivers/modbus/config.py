"""What a user writes to reach a Modbus TCP device. Addresses: `address.py`."""

from typing import Annotated, Literal

from pydantic import Field

from protocols.driver import Connection

Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]


class ModbusConnection(Connection):
    """One TCP connection; several units behind a gateway share it.

    Limits are the protocol's own; lower them for a device that takes less.
    """

    protocol: Literal["modbus"] = "modbus"
    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65_535)] = 502
    unit: Annotated[int, Field(ge=0, le=255)] = 1  # of addresses that name none
    order: Order = "ABCD"  # of addresses that name none
    text_encoding: Literal["utf-8", "latin-1", "cp1252", "ascii"] = "utf-8"
    registers_max: Annotated[int, Field(ge=1, le=125)] = 125
    bits_max: Annotated[int, Field(ge=1, le=2_000)] = 2_000
    gap_registers: Annotated[int, Field(ge=0, le=124)] = 16  # unwanted ones read to save a request
    gap_bits: Annotated[int, Field(ge=0, le=1_999)] = 256
    bit_write: Literal["mask", "read_modify_write"] = "mask"  # of one bit in a holding register
