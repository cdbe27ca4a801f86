"""What the stations measure: values and curves of a job, drawn from the seed.

Pure. A job that fails shows it in its values: the limits and the verdict always agree.
"""

import math
from dataclasses import dataclass

from simulators.catalogue import END_OF_LINE_VALUES, PRESS_POINTS, SCREW_POINTS, SCREWS
from simulators.draws import draws
from simulators.plan import Job
from simulators.tags import Value

TORQUE_LOW, TORQUE_HIGH = 9.0, 11.5
_BAD_SCREW = 4
_BAD_VALUE = "leak_rate"
_BEARING_SEATED_MM, _PRESS_END_MM = 10.0, 13.0


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one curve; the arrays of the device are longer and padded with zeros."""

    x: list[float]
    y: list[float]

    def padded(self, points: int) -> tuple[list[float], list[float]]:
        rest = [0.0] * (points - len(self.x))
        return self.x + rest, self.y + rest


@dataclass(frozen=True, slots=True)
class Screw:
    """One screw: what the spindle reports, and its curve of torque over angle."""

    torque: float
    angle: float
    curve: Curve


def winding(seed: int, job: Job) -> dict[str, Value]:
    draw = draws(seed, "winding", job.ordinal)
    return {
        "resistance": draw.gauss(18.0, 0.15),
        "turns": 312 + draw.choice((-1, 0, 0, 0, 1)),
        "code": _code(job),
        "nok": job.defect,
    }


def rotor(seed: int, job: Job) -> dict[str, Value]:
    draw = draws(seed, "rotor", job.ordinal)
    return {
        "result.force": draw.gauss(21.0, 0.8),
        "result.temperature": draw.gauss(182.0, 2.5),
        "result.code": _code(job),
        "result.nok": job.defect,
    }


def press_curve(seed: int, job: Job) -> Curve:
    """Returns force over way: a rise, the pressing between 10 and 12.5 mm, the stop."""
    draw = draws(seed, "press", job.nest, job.ordinal)
    points = PRESS_POINTS - draw.randrange(20)
    height, slope = draw.gauss(10.5, 0.6), draw.uniform(0.2, 0.5)
    way = [_PRESS_END_MM * i / (points - 1) for i in range(points)]
    return Curve(way, [_press_force(at, height, slope, draw.gauss(0.0, 0.03)) for at in way])


def screws(seed: int, job: Job) -> list[Screw]:
    return [_screw(seed, job, number) for number in SCREWS]


def end_of_line(seed: int, job: Job) -> dict[str, Value]:
    draw = draws(seed, "end of line", job.unit, job.attempt)
    values: dict[str, Value] = {"result.code": _code(job), "result.nok": job.defect}
    for name, _, low, high in END_OF_LINE_VALUES:
        value = draw.triangular(low, high)
        if job.defect and name == _BAD_VALUE:
            value = high + draw.uniform(0.5, 2.0)
        values[f"result.{name}"] = value
        values[f"result.{name}_low"] = low
        values[f"result.{name}_high"] = high
    return values


def _code(job: Job) -> int:
    return 2 if job.defect else 1


def _press_force(way: float, height: float, slope: float, noise: float) -> float:
    if way < _BEARING_SEATED_MM:
        return max(0.0, height * (way / _BEARING_SEATED_MM) ** 3 + noise)
    return height + slope * (way - _BEARING_SEATED_MM) + noise


def _screw(seed: int, job: Job, number: int) -> Screw:
    draw = draws(seed, "screw", job.ordinal, number)
    failed = bool(job.defect) and number == _BAD_SCREW
    torque = draw.uniform(3.0, 6.0) if failed else draw.triangular(9.4, 11.1, 10.2)
    angle = draw.gauss(540.0 if failed else 410.0, 18.0)
    points = SCREW_POINTS - draw.randrange(6)
    x = [angle * i / (points - 1) for i in range(points)]
    y = [torque * math.sin(math.pi / 2 * (at / angle) ** 2) for at in x]
    return Screw(torque, angle, Curve(x, y))
