"""Opens the right server for each controller of a plant; the one place that knows all three."""

from collections.abc import Mapping
from typing import Any, Protocol

from simulators.config import ModbusController, OpcuaController, PlantConfig, S7Controller
from simulators.datablocks import BlockImage
from simulators.image import OnWrite, Refresh
from simulators.journal import Journal
from simulators.memory import DeviceImage
from simulators.modbus import ModbusServer
from simulators.nodes import NodeImage
from simulators.registers import RegisterImage
from simulators.s7 import S7Server


class Served(Protocol):
    """A controller on the network."""

    port: int

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def close(self) -> None: ...

    def hang(self) -> None: ...

    def resume(self) -> None: ...

    async def restart_with_moved_namespace(self) -> None:
        """OPC UA only. NotImplementedError: this protocol has no namespaces."""


def open_servers(
    plant: PlantConfig,
    images: Mapping[str, DeviceImage],
    journal: Journal,
    refresh: Refresh,
    written: OnWrite,
) -> dict[str, Served]:
    """Returns a server for each controller, none of them listening yet."""
    servers: dict[str, Served] = {}
    for name, config in plant.controllers.items():
        own = {
            device: image
            for device, image in images.items()
            if plant.devices[device].controller == name
        }
        match config:
            case ModbusController():
                registers = {k: v for k, v in own.items() if isinstance(v, RegisterImage)}
                modbus = ModbusServer(name, registers, journal, refresh, written)
                servers[name] = modbus.listener(config.host, config.port)
            case S7Controller():
                blocks = {k: v for k, v in own.items() if isinstance(v, BlockImage)}
                s7 = S7Server(name, config, blocks, journal, refresh, written)
                servers[name] = s7.listener(config.host, config.port)
            case OpcuaController():
                # asyncua takes most of a second to import: only a plant that has it pays.
                from simulators.opcua import OpcuaServer  # noqa: PLC0415  # as said above

                nodes = {k: v for k, v in own.items() if isinstance(v, NodeImage)}
                servers[name] = OpcuaServer(name, config, nodes, journal, refresh, written)
    return servers


def ports_of(plant: PlantConfig, servers: Mapping[str, Served]) -> dict[str, dict[str, Any]]:
    """Returns what an agent must know to connect to each device."""
    ports = {}
    for device, config in plant.devices.items():
        controller = plant.controllers[config.controller]
        entry: dict[str, Any] = {
            "protocol": controller.protocol,
            "controller": config.controller,
            "host": controller.host,
            "port": servers[config.controller].port,
        }
        match controller:
            case ModbusController():
                entry["unit"] = config.unit or 1
            case S7Controller():
                entry |= {"rack": controller.rack, "slot": controller.slot}
            case OpcuaController():
                entry["namespace"] = controller.namespace
                entry["url"] = f"opc.tcp://{controller.host}:{entry['port']}/"
        ports[device] = entry
    return ports
