"""What a pass says of its values, however each is taken."""

from protocols.events import HolderRef, Verdict
from tests.support.binding import compiled, one_station
from tests.support.stations import clamped, idle_bench, press, pressed


class TestValues:
    STATION = """
station: L1/X
cycle:
  start: {edge: p20.a.clamped}
  end: {edge: p20.a.done}
  key: {count: p20.a.cycle_no, modulus: 32768}
items: {trust: ["carrier/{st010.rfid}"]}
values:
- {name: first, tag: p20.oil_temp, how: at_start}
- {name: last, tag: p20.oil_temp}
- {name: most, tag: p20.oil_temp, how: max}
- {name: least, tag: p20.oil_temp, how: min, low: 5}
- {name: when, tag: p20.oil_temp, how: at_trigger, trigger: {edge: p20.b.done}}
- {name: result, tag: p20.a.result}
- {name: text, tag: st010.dmc}
- {name: bit, tag: p20.b.done}
"""

    def test_of_every_kind(self) -> None:
        made = idle_bench(plan=compiled(one_station(self.STATION)))
        made.devices |= {"st010"}
        made.set({"st010.dmc": "free text", "st010.rfid": "C7"})
        clamped(made, "a", 101)
        for temp in (10.0, 30.0, 4.0):
            made.set({"p20.oil_temp": temp, "p20.b.done": temp == 30.0})
            made.wait(0.3)
        made.set({"p20.oil_temp": 20.0, "p20.a.result": 3})
        made.poll(1)
        pressed(made, "a", result=2)
        made.wait(0.5)
        (told,) = made.passes()
        values = {value.name: value for value in told.values}
        numbers = {name: one.num for name, one in values.items() if one.num is not None}
        assert numbers == {"first": 10.0, "last": 20.0, "most": 30.0, "least": 4.0, "when": 30.0}
        assert values["least"].ok is False
        assert values["result"].int_ == 2
        assert values["text"].text == "free text"
        assert values["bit"].bool_ is False
        assert told.items[0].ref == HolderRef(holder="carrier/C7")
        assert told.items[0].verdict is Verdict.NOT_JUDGED
        assert told.missing == ()

    def test_a_trigger_that_did_not_come_leaves_its_value_out(self) -> None:
        made = idle_bench(plan=compiled(one_station(self.STATION)))
        made.devices |= {"st010"}
        press(made, "a", 101, None)
        assert "when" in made.passes()[0].missing

    def test_a_running_cycle_is_told_where_it_is_asked_for(self) -> None:
        config = one_station(self.STATION + "open: true\n")
        made = idle_bench(plan=compiled(config))
        made.devices |= {"st010"}
        press(made, "a", 101, None)
        clamped(made, "a", 102)
        made.wait(0.5)
        opened = made.passes()[-1]
        assert (opened.key.count, opened.ended) == (102, None)
        pressed(made, "a")
        made.wait(0.5)
        closed = made.passes()[-1]
        assert closed.replaces == (opened.id,)
        assert closed.pass_id == opened.pass_id
        assert made.counts() == [101, 101, 102, 102]
