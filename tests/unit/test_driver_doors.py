"""Where the libraries' exceptions end: every class that one defines comes out translated."""

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pymodbus.exceptions
import pytest
import snap7.error
from asyncua.ua import UaError, uaerrors
from asyncua.ua.uaerrors import UaStatusCodeError, UaStatusCodeErrors

from protocols.drivers.modbus import client as modbus
from protocols.drivers.opcua import client as opcua
from protocols.drivers.s7 import client as s7
from protocols.errors import Disconnected

DOORS = {"modbus": modbus._door, "opcua": opcua._door, "s7": s7._door}
BAD = 0x80010000
NETWORK = [OSError, ConnectionError, ConnectionResetError, BrokenPipeError, TimeoutError]


def exceptions_of(module: ModuleType) -> Iterator[type[BaseException]]:
    for found in vars(module).values():
        if inspect.isclass(found) and issubclass(found, Exception):
            yield found


LIBRARIES: dict[str, list[type[BaseException]]] = {
    "modbus": list(exceptions_of(pymodbus.exceptions)),
    "s7": list(exceptions_of(snap7.error)),
    "opcua": [*exceptions_of(uaerrors), UaError],
}
ALL = [(name, kind) for name, kinds in LIBRARIES.items() for kind in [*kinds, *NETWORK]]


def test_the_libraries_have_exceptions() -> None:
    assert {name: len(kinds) > 4 for name, kinds in LIBRARIES.items()} == dict.fromkeys(
        DOORS, True
    )  # all


@pytest.mark.parametrize(("name", "kind"), ALL, ids=lambda each: getattr(each, "__name__", each))
def test_none_of_them_gets_through(name: str, kind: type[BaseException]) -> None:
    with pytest.raises(Disconnected) as failed, DOORS[name]("asking"):
        raise made(kind)
    assert isinstance(failed.value.__cause__, kind)
    assert "asking" in failed.value.reason
    assert failed.value.code is not None


def made(kind: Any) -> BaseException:
    error: BaseException
    if kind is UaStatusCodeErrors:
        error = kind([BAD])  # type: ignore[no-untyped-call]  # asyncua
    elif issubclass(kind, UaStatusCodeError):
        error = kind(BAD) if kind is UaStatusCodeError else kind()  # type: ignore[no-untyped-call]  # asyncua
    else:
        error = kind("text")
    return error
