"""Every failure that paho and sqlite3 know ends at its door: a new one fails here first."""

import importlib
import inspect
import pkgutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import paho.mqtt
import pytest
from paho.mqtt import subscribeoptions

from edge import database, mqtt
from edge.entries import Broken, NoSpace
from protocols.errors import Failure

# Of MQTT 5, which the agent does not speak.
NOT_OURS = frozenset({subscribeoptions.MQTTException})


def exceptions(module: ModuleType) -> Iterator[type[BaseException]]:
    for found in vars(module).values():
        if inspect.isclass(found) and issubclass(found, BaseException):
            yield found


def paho_exceptions() -> set[type[BaseException]]:
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(paho.mqtt.__path__, "paho.mqtt.")
    ]
    return {
        found
        for module in modules
        for found in exceptions(module)
        if found.__module__.startswith("paho")
    }


def test_every_exception_of_paho_is_translated() -> None:
    found = paho_exceptions()
    assert len(found) >= 3
    assert [one for one in found - NOT_OURS if not issubclass(one, mqtt.FAILURES)] == []


def test_every_exception_of_sqlite_is_translated(tmp_path: Path) -> None:
    found = [one for one in exceptions(sqlite3) if not issubclass(one, Warning)]
    found = [one for one in found if one is not sqlite3.Warning]
    assert len(found) >= 8
    for one in found:
        with pytest.raises(Failure), database._translated(tmp_path):
            raise one("planted")


def test_no_room_is_another_failure_than_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    file = database.Database(path, tables="CREATE TABLE t (x BLOB);", application=1, version=1)
    file._limit(20)
    with pytest.raises(NoSpace):
        file.change("INSERT INTO t VALUES (?)", (bytes(100_000),))
    file.rollback()
    with pytest.raises(Broken):
        file.rows("SELECT * FROM nowhere")
    file.close()
    with pytest.raises(Broken):
        file.rows("SELECT 1")
