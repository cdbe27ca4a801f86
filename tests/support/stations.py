"""What the PLCs of the four stations do, as functions on a bench's memory."""

from typing import Any

from protocols.events import NameRef
from tests.support.binding import compiled, plant_tags
from tests.support.plc import Bench

PRESS = "L1/PRESS20"
TAKEN = {
    "st010.taken": "st010.ready",
    "f07.scan_taken": "f07.scan_ready",
    "st000.taken": "st000.ready",
}


def dmc(number: int, material: str = "EDU") -> str:
    return f"P{material}#S{number:012}#VTLD"


def serial(number: int) -> NameRef:
    """The name in `dmc`."""
    return NameRef(scheme="serial", issuer="TLD", value=f"{number:012}")


def bench(**options: Any) -> Bench:
    """All four stations at rest."""
    made = Bench(options.pop("plan", None) or compiled(), plant_tags(), **options)
    made.on_write = take
    made.set(dict.fromkeys(TAKEN.values(), False) | dict.fromkeys(TAKEN, False))
    made.set({"st010.cycle_no": 41, "f07.scan_no": 6, "st000.count": 0})
    made.set({"st010.master_on": False, "st010.setup_on": False, "p20.oil_temp": 46.0})
    for nest in ("a", "b"):
        made.set(
            {
                f"p20.{nest}.clamped": False,
                f"p20.{nest}.done": False,
                f"p20.{nest}.cycle_no": 100,
                f"p20.{nest}.result": 0,
                f"p20.{nest}.nok": 0,
                f"p20.{nest}.program": 8,
                f"scanner20.{nest}": "",
                f"scanner20.{nest}_no": 0,
            }
        )
    return made


def idle_bench(**options: Any) -> Bench:
    """The press and its scanner alone, after a few polls."""
    made = bench(devices=frozenset({"p20", "scanner20"}), **options)
    made.poll(3)
    return made


def take(made: Bench, path: str, value: Any) -> None:
    """The PLC answers taken: both bits fall in one scan."""
    if value is True:
        made.memory.update({TAKEN[path]: False, path: False})


def screwed(made: Bench, count: int, code: str, **more: Any) -> None:
    """ST010 shows a result and raises ready."""
    ended_ns = (made.now_us + 20_000) * 1_000
    values: dict[str, Any] = {
        "st010.cycle_no": count,
        "st010.dmc": code,
        "st010.rfid": f"C{count:04}",
        "st010.cover_dmc": dmc(10_000 + count, "COV"),
        "st010.program": 17,
        "st010.t_start": ended_ns - 2_000_000_000,
        "st010.t_end": ended_ns,
        "st010.result.code": 1,
        "st010.result.nok_code": 0,
        "st010.result.t_low": 8.0,
        "st010.result.t_high": 10.0,
        "st010.result.torque": [8.5 + screw / 10 for screw in range(6)],
        "st010.result.angle": [90.0 + screw for screw in range(6)],
        "st010.result.cn": [3] * 6,
    }
    for screw in range(1, 7):
        values[f"st010.result.cx[{screw}]"] = [0.0, 1.0, 2.0, 0.0]
        values[f"st010.result.cy[{screw}]"] = [0.0, float(screw), 9.0, 0.0]
    made.set({**values, **{path.replace("__", "."): one for path, one in more.items()}})
    made.set({"st010.ready": True})


def marked(made: Bench, count: int, code: str) -> None:
    made.set({"st000.count": count, "st000.mark.dmc": code, "st000.mark.type": "EDU4711A"})
    made.set({"st000.mark.order": "ORD-1", "st000.mark.carrier": "C0001", "st000.ready": True})


def loaded(made: Bench, count: int, lot: str, quantity: float = 39.9) -> None:
    made.set({"f07.scan_no": count, "f07.scan.lot": lot, "f07.scan.qty": quantity})
    made.set({"f07.scan.at": made.now_us, "f07.scan_ready": True})


def scanned(made: Bench, nest: str, text: str) -> None:
    made.set(
        {f"scanner20.{nest}": text, f"scanner20.{nest}_no": made.memory[f"scanner20.{nest}_no"] + 1}
    )


def clamped(made: Bench, nest: str, count: int) -> None:
    made.set(
        {f"p20.{nest}.cycle_no": count, f"p20.{nest}.clamped": True, f"p20.{nest}.done": False}
    )


def pressed(made: Bench, nest: str, result: int = 1, force: float = 11.0) -> None:
    made.set(
        {
            f"p20.{nest}.curve.way": [9.0, 10.0, 11.0, 12.0, 13.0, 0.0, 0.0, 0.0],
            f"p20.{nest}.curve.force": [1.0, 5.0, force, 7.0, 20.0, 0.0, 0.0, 0.0],
            f"p20.{nest}.curve.n": 5,
            f"p20.{nest}.result": result,
            f"p20.{nest}.nok": 0 if result == 1 else 77,
            f"p20.{nest}.done": True,
        }
    )


def unclamped(made: Bench, nest: str) -> None:
    made.set({f"p20.{nest}.clamped": False, f"scanner20.{nest}": ""})


def press(made: Bench, nest: str, count: int, code: str | None, **options: Any) -> None:
    """One cycle of about two seconds, then half a second of rest."""
    if code is not None:
        scanned(made, nest, code)
    made.wait(0.4)
    clamped(made, nest, count)
    made.wait(1.0)
    pressed(made, nest, **options)
    made.wait(0.4)
    unclamped(made, nest)
    made.wait(0.4)


def cycle(made: Bench, count: int, *, skip: tuple[str, ...] = ()) -> None:
    """Of nest a, without a scan; `skip`: who is silent meanwhile."""
    clamped(made, "a", count)
    made.wait(1, skip)
    pressed(made, "a")
    made.wait(1, skip)
    made.set({"p20.a.clamped": False})
    made.wait(1, skip)


def counted_at_end(made: Bench, count: int) -> None:
    clamped(made, "a", count - 1)
    made.wait(0.5)
    pressed(made, "a")
    made.set({"p20.a.cycle_no": count})
    made.wait(0.5)
    unclamped(made, "a")
    made.wait(0.5)


def refs(made: Bench) -> dict[int, Any]:
    """What each pass of nest a says itself; late names are said by others."""
    return {event.key.count: event.items[0].ref for event in made.passes(PRESS, "a")}
