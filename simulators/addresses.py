"""Lists the path, address and type of every tag: an agent's configuration is written from it.

Pure. An array is one row; `first` is the number of its first element in paths.
"""

import json
from dataclasses import asdict, dataclass

from simulators.config import PlantConfig
from simulators.memory import build_images
from simulators.tags import path_of


@dataclass(frozen=True, slots=True)
class AddressRow:
    """One tag as an agent must name it; `array` is the number of elements, 0 for a scalar."""

    path: str
    device: str
    protocol: str
    address: str
    type: str
    unit: str
    array: int
    first: int
    written: bool


def list_addresses(plant: PlantConfig) -> list[AddressRow]:
    rows = []
    for device, image in build_images(plant, lambda: 0).items():
        protocol = plant.controllers[plant.devices[device].controller].protocol
        rows += [
            AddressRow(
                path=path_of(device, name),
                device=device,
                protocol=protocol,
                address=slot.address,
                type=str(slot.tag.kind),
                unit=slot.tag.unit,
                array=slot.tag.count,
                first=slot.tag.first,
                written=slot.tag.written,
            )
            for name, slot in image.slots.items()
        ]
    return rows


def addresses_as_json(rows: list[AddressRow]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=1)


def addresses_as_table(rows: list[AddressRow]) -> str:
    """Returns plain aligned columns, one row a tag, for reading and for `grep`."""
    head = ("path", "address", "type", "unit", "written")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cells(row: AddressRow) -> tuple[str, str, str, str, str]:
    array = f"[{row.first}..{row.first + row.array - 1}]" if row.array else ""
    return (row.path, row.address, row.type + array, row.unit, "yes" if row.written else "")
