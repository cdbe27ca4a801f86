"""Keeps the images' moving signals up to the present, tick by tick, when somebody looks."""

from collections.abc import Callable, Mapping

from simulators.catalogue import analog_tags
from simulators.config import PlantConfig
from simulators.memory import DeviceImage
from simulators.signals import TICK_US, AnalogSignals

Extra = Callable[[int], None]


class LiveSignals:
    """Refreshes one device at a time; `extra` are signals that depend on the line's state."""

    def __init__(
        self,
        plant: PlantConfig,
        images: Mapping[str, DeviceImage],
        mono_us: Callable[[], int],
    ) -> None:
        self.extra: dict[str, Extra] = {}
        self._images = images
        self._mono_us = mono_us
        self._start_us = mono_us()
        self._ticks = dict.fromkeys(images, -1)
        self._analog = {
            name: AnalogSignals(plant.seed, name, analog_tags(device.analog))
            for name, device in plant.devices.items()
            if device.analog
        }

    def refresh(self, device: str) -> None:
        tick = (self._mono_us() - self._start_us) // TICK_US
        if tick == self._ticks[device]:
            return
        self._ticks[device] = tick
        if device in self._analog:
            put = self._images[device].put
            for name, value in self._analog[device].at(tick):
                put(name, value)
        if device in self.extra:
            self.extra[device](tick)
