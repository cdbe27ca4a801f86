"""What a recorded response said about each tag: the journal's bytes as typed values, by path.

Pure. The plant's own reading of its own bytes, from the layout of the plant file: an oracle that
owes nothing to any driver.
"""

from typing import Any

from simulators.config import PlantConfig
from simulators.datablocks import BlockImage
from simulators.journal import ModbusResponse, OpcuaResponse, Response, S7Response
from simulators.memory import build_images
from simulators.modbuswire import READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT, unpack_bits
from simulators.nodes import NodeImage
from simulators.registers import RegisterImage
from simulators.s7wire import GOOD
from simulators.tags import FLOAT_KINDS, Kind, Tag, Value, path_of

_TABLES = {
    READ_COILS: "coil",
    READ_DISCRETE: "discrete",
    READ_HOLDING: "holding",
    READ_INPUT: "input",
}


class Decoder:
    """Reads the responses of one plant."""

    def __init__(self, plant: PlantConfig) -> None:
        self._units: dict[tuple[str, int], tuple[str, RegisterImage]] = {}
        self._blocks: dict[tuple[str, int], tuple[str, BlockImage]] = {}
        self._nodes: dict[str, Tag] = {}
        for device, image in build_images(plant, lambda: 0).items():
            controller = plant.devices[device].controller
            match image:
                case RegisterImage():
                    self._units[controller, image.unit] = (device, image)
                case BlockImage():
                    for block in image.blocks:
                        self._blocks[controller, block] = (device, image)
                case NodeImage():
                    self._nodes.update({n.path: n.tag for n in image.nodes.values()})

    def values(self, response: Response) -> dict[str, Value | None]:
        """Returns the tags that the response carried whole; None: read, but without a value."""
        match response:
            case ModbusResponse():
                return self._modbus_values(response)
            case S7Response():
                return self._s7_values(response)
            case OpcuaResponse():
                return {
                    path: self._node_value(path, value)
                    for path, value in zip(response.paths, response.values, strict=True)
                }

    def _modbus_values(self, response: ModbusResponse) -> dict[str, Value | None]:
        device, image = self._units[response.controller, response.unit]
        table = _TABLES[response.function]
        raw = response.raw
        if response.exception:
            return {}
        if table in {"coil", "discrete"}:
            raw = unpack_bits(raw, response.count)
        found = image.decode(table, response.start, raw)
        return {path_of(device, name): value for name, value in found.items()}

    def _s7_values(self, response: S7Response) -> dict[str, Value | None]:
        values: dict[str, Value | None] = {}
        for item in response.items:
            if item.code != GOOD:
                continue
            device, image = self._blocks[response.controller, item.block]
            if item.bit >= 0:
                for name in image.covering(item.block, 8 * item.start + item.bit, 1):
                    values[path_of(device, name)] = bool(item.raw[0])
            else:
                found = image.decode(item.block, item.start, item.raw)
                values |= {path_of(device, name): value for name, value in found.items()}
        return values

    def _node_value(self, path: str, value: Any) -> Value | None:  # as JSON gives it
        tag = self._nodes.get(path) or self._nodes.get(path.rpartition("[")[0])
        if value is None or tag is None:
            return None
        if tag.kind is Kind.BYTES:
            return bytes.fromhex(value)
        if tag.kind in FLOAT_KINDS:
            return [float(v) for v in value] if isinstance(value, list) else float(value)
        return value  # type: ignore[no-any-return]  # JSON's own types are the rest
