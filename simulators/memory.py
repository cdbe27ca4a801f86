"""Builds the memory of every device from the plant file. Pure apart from the clock it passes on."""

from collections.abc import Callable

from simulators.catalogue import analog_tags, tags_of
from simulators.config import (
    Controller,
    DeviceConfig,
    ModbusController,
    OpcuaController,
    PlantConfig,
    S7Controller,
)
from simulators.datablocks import BlockImage
from simulators.nodes import NodeImage
from simulators.registers import ANALOG_START, TYPES_START, RegisterImage
from simulators.typed import TYPED_STATUS, TypedTag, typed_tags

DeviceImage = RegisterImage | BlockImage | NodeImage


def build_images(plant: PlantConfig, utc_us: Callable[[], int]) -> dict[str, DeviceImage]:
    """Returns each device's memory with every tag placed and the block of types filled."""
    images = {}
    for name, device in plant.devices.items():
        controller = plant.controllers[device.controller]
        typed = typed_tags(controller.protocol) if device.types else []
        image = _build(name, device, controller, typed, utc_us)
        _fill(image, typed)
        images[name] = image
    return images


def _build(
    name: str,
    device: DeviceConfig,
    controller: Controller,
    typed: list[TypedTag],
    utc_us: Callable[[], int],
) -> DeviceImage:
    types = [tag for tag, _ in typed]
    match controller:
        case ModbusController():
            registers = RegisterImage(device.unit or 1, device.order or "ABCD")
            registers.place(tags_of(name))
            registers.place(analog_tags(device.analog), ANALOG_START)
            registers.place(types, TYPES_START)
            return registers
        case S7Controller():
            blocks = BlockImage()
            first = device.block or 1
            for number, tags in enumerate((tags_of(name), analog_tags(device.analog), types)):
                if tags:
                    blocks.place(tags, first + number)
            return blocks
        case OpcuaController():
            offset_us = round(controller.clock_offset_s * 1e6)
            nodes = NodeImage(name, controller.namespace, lambda: utc_us() + offset_us)
            nodes.place([*tags_of(name), *analog_tags(device.analog), *types])
            return nodes


def _fill(image: DeviceImage, typed: list[TypedTag]) -> None:
    for tag, value in typed:
        image.put(tag.name, value)
    if isinstance(image, NodeImage) and typed:
        for name, status in TYPED_STATUS.items():
            image.put_status(name, status)
