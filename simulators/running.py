"""Runs a plant as a process: files, signals, the end. The command line's only way in."""

import asyncio
import gc
import json
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.config import PlantConfig
from simulators.control import serve_control
from simulators.plant import Plant


@dataclass(frozen=True, slots=True)
class Files:
    """Where the process writes; None: nowhere."""

    ports: Path | None
    journal: Path | None
    control: Path | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the command line changes about the plant file's life."""

    seconds: float | None
    units: int | None
    seed: int | None


async def run_plant(
    config: PlantConfig, files: Files, limits: Limits, say: Callable[[str], None]
) -> None:
    """Runs until a signal or the limit; then stops all and leaves a whole journal.

    Raises:
        OSError: A port is taken, or a file cannot be written.
    """
    # It warns about missing certificates at each start: this plant has no security on purpose.
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    told = _end_signal()
    async with AsyncExitStack() as stack:
        sink = None
        if files.journal is not None:
            sink = stack.enter_context(files.journal.open("w", encoding="utf-8"))
        plant = await stack.enter_async_context(Plant(_limited(config, limits), journal_sink=sink))
        if files.control is not None:
            await stack.enter_async_context(serve_control(plant, files.control))
        if files.ports is not None:
            _write_whole(files.ports, json.dumps(plant.ports, indent=1) + "\n")
        # What stands now stays: a collection of it would stop all devices for 50 ms.
        gc.freeze()
        say(_greeting(plant.ports))
        await _until(told, limits.seconds)


def _limited(config: PlantConfig, limits: Limits) -> PlantConfig:
    changes: dict[str, Any] = {}
    if limits.seed is not None:
        changes["seed"] = limits.seed
    if limits.units is not None and config.production is not None:
        changes["production"] = config.production.model_copy(update={"units": limits.units})
    return config.model_copy(update=changes)


def _write_whole(file: Path, text: str) -> None:
    """Readers wait for the file: it appears complete."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _greeting(ports: dict[str, dict[str, Any]]) -> str:
    lines = [f"{name:<12}{p['protocol']:<8}{p['host']}:{p['port']}" for name, p in ports.items()]
    return "\n".join(["The plant runs:", *lines])


def _end_signal() -> asyncio.Event:
    """Returns what SIGTERM and SIGINT set, from the first moment on."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


async def _until(told: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await told.wait()
    except TimeoutError:
        return
