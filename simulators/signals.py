"""Analogue signals: a value for each tag as a function of the tick alone.

Pure and seeded. A tick is `TICK_US` of plant time; between ticks nothing moves, so all devices cost
nothing until somebody reads them.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from simulators.draws import draws
from simulators.tags import Kind, Tag, Value

TICK_US = 50_000
_NOISE_VALUES = 1024
_TICKS_A_SECOND = 1_000_000 // TICK_US


@dataclass(frozen=True, slots=True)
class _Wave:
    name: str
    kind: Kind
    middle: float
    amplitude: float
    radians_a_tick: float
    phase: float
    noise_step: int


class AnalogSignals:
    """Sine and noise for each tag of a device's block."""

    def __init__(self, seed: int, device: str, tags: Iterable[Tag]) -> None:
        self._waves = [_wave(seed, device, tag) for tag in tags]
        noise = draws(seed, device, "noise")
        self._noise = [noise.gauss(0.0, 0.02) for _ in range(_NOISE_VALUES)]

    def at(self, tick: int) -> Iterator[tuple[str, Value]]:
        """Yields name and value of every tag at a tick."""
        sin, noise = math.sin, self._noise
        for wave in self._waves:
            swing = sin(wave.radians_a_tick * tick + wave.phase)
            swing += noise[(tick * wave.noise_step) % _NOISE_VALUES]
            if wave.kind is Kind.FLOAT32:
                yield wave.name, wave.middle + wave.amplitude * swing
            elif wave.kind is Kind.BOOL:
                yield wave.name, swing > 0.0
            else:
                yield wave.name, round(wave.middle + wave.amplitude * swing)


def level(seed: int, name: str, tick: int, middle: float, spread: float) -> float:
    """Returns one noisy level, for a signal that lives only while a station works."""
    return middle + spread * math.sin(tick / 7.0) + draws(seed, name, tick).gauss(0.0, spread / 4)


def _wave(seed: int, device: str, tag: Tag) -> _Wave:
    draw = draws(seed, device, tag.name)
    return _Wave(
        name=tag.name,
        kind=tag.kind,
        middle=draw.uniform(-50.0, 50.0),
        amplitude=draw.uniform(10.0, 100.0) * (1.0 if tag.kind is Kind.FLOAT32 else 100.0),
        radians_a_tick=2 * math.pi / (draw.uniform(5.0, 60.0) * _TICKS_A_SECOND),
        phase=draw.uniform(0.0, 2 * math.pi),
        noise_step=2 * draw.randrange(_NOISE_VALUES // 2) + 1,
    )
