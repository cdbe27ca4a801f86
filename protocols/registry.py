"""The one visible list of drivers; each is imported only when such a device is opened."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias, assert_never

from pydantic import Field

from protocols.driver import Clock, Device, Mode, Plan, TagSpec
from protocols.drivers.modbus.config import ModbusConnection
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.drivers.s7.config import S7Connection
from protocols.errors import ConfigError, Problem

# ruff: noqa: PLC0415  # the point of this file

AnyConnection: TypeAlias = Annotated[
    ModbusConnection | OpcuaConnection | S7Connection, Field(discriminator="protocol")
]


def open_device(connection: AnyConnection, clock: Clock) -> Device:
    """A device that is not connected yet: `open` does that."""
    match connection:
        case ModbusConnection():
            from protocols.drivers.modbus.client import ModbusDevice

            return ModbusDevice(connection, clock)
        case OpcuaConnection():
            from protocols.drivers.opcua.client import OpcuaDevice

            return OpcuaDevice(connection, clock)
        case S7Connection():
            from protocols.drivers.s7.client import S7Device

            return S7Device(connection, clock)
        case _:
            assert_never(connection)


def make_plan(connection: AnyConnection, tags: Sequence[TagSpec], mode: Mode) -> Plan:
    """The fewest reads for a group. Whole arrays on demand and from a mailbox, else elements.

    ConfigError: every tag that cannot be read, all at once.
    """
    match connection:
        case ModbusConnection():
            from protocols.drivers.modbus import planner as modbus

            return modbus.make_plan(connection, tags, mode)
        case OpcuaConnection():
            from protocols.drivers.opcua import planner as opcua

            return opcua.make_plan(connection, tags, mode)
        case S7Connection():
            from protocols.drivers.s7 import planner as s7

            return s7.make_plan(connection, tags, mode)
        case _:
            assert_never(connection)


def parse_tag(connection: AnyConnection, tag: TagSpec, mode: Mode) -> tuple[Problem, ...]:
    """What is wrong with one tag, without a connection; empty: nothing."""
    try:
        make_plan(connection, [tag], mode)
    except ConfigError as error:
        return error.problems
    return ()


def explain(connection: AnyConnection, code: int) -> str:
    """What a protocol's code says and what to do about it; empty where nothing is known."""
    match connection:
        case ModbusConnection():
            from protocols.drivers.modbus import wire as modbus

            return modbus.explain(code)
        case OpcuaConnection():
            from protocols.drivers.opcua.client import describe_status

            return describe_status(code)
        case S7Connection():
            from protocols.drivers.s7 import wire as s7

            return s7.explain(code)
        case _:
            assert_never(connection)
