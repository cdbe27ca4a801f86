"""The Modbus TCP server of one controller.

Own code, not pymodbus' server: that one keeps a single last request per connection, so pipelined
requests overwrite each other, and it never tells when a response has left, which the journal needs.
"""

import struct
from collections.abc import Callable, Mapping

from simulators.image import OnWrite, Refresh
from simulators.journal import Journal, WriteRecord, response_head
from simulators.listener import Link, Listener
from simulators.modbuswire import Reading, Writing, answer
from simulators.registers import RegisterImage
from simulators.tags import path_of

_HEADER = struct.Struct(">HHHB")
_LENGTHS = range(2, 255)
_NO_SUCH_UNIT = 0x0B


class ModbusServer:
    """Serves the units of one controller; `refresh` brings a device's signals up to now."""

    def __init__(
        self,
        controller: str,
        images: Mapping[str, RegisterImage],
        journal: Journal,
        refresh: Refresh,
        written: OnWrite,
    ) -> None:
        self.controller = controller
        self.journal = journal
        self.refresh = refresh
        self.written = written
        self.units = {image.unit: (device, image) for device, image in images.items()}

    def listener(self, host: str, port: int) -> Listener:
        return Listener(host, port, lambda listener: _ModbusLink(listener, self))


class _ModbusLink(Link):
    def __init__(self, listener: Listener, server: ModbusServer) -> None:
        super().__init__(listener)
        self._server = server

    def take(self, received: bytearray) -> bytes | None:
        if len(received) < _HEADER.size:
            return None
        _, protocol, length, _ = _HEADER.unpack_from(received)
        if protocol != 0 or length not in _LENGTHS:
            raise ValueError("not Modbus TCP")
        end = _HEADER.size - 1 + length
        if len(received) < end:
            return None
        request = bytes(received[:end])
        del received[:end]
        return request

    def serve(self, request: bytes) -> None:
        transaction, _, _, unit = _HEADER.unpack_from(request)
        pdu = request[_HEADER.size :]
        found = self._server.units.get(unit)
        if found is None:
            self._send(transaction, unit, bytes([pdu[0] | 0x80, _NO_SUCH_UNIT]))
            return
        device, image = found
        self._server.refresh(device)
        result = answer(image, pdu)
        if isinstance(result, Reading):
            self._send_reading(transaction, unit, result)
        else:
            self._note_write(device, image, result)
            self._send(transaction, unit, result.pdu)

    def _send_reading(self, transaction: int, unit: int, reading: Reading) -> None:
        journal = self._server.journal
        clock = journal.clock
        head = response_head(
            self._server.controller, self.number, self.requests, clock.mono_us(), clock.utc_us()
        )
        fields = (
            f'"unit":{unit},"function":{reading.function},"start":{reading.start},'
            f'"count":{reading.count},"hex":"{reading.raw.hex()}"'
        )
        if reading.exception:
            fields += f',"exception":{reading.exception}'
        self._send(transaction, unit, reading.pdu, lambda: journal.response(head, fields))

    def _note_write(self, device: str, image: RegisterImage, writing: Writing) -> None:
        now = self._server.journal.now()
        values = {path_of(device, name): image.get(name) for name in writing.names}
        taken = not writing.exception
        self._server.journal.write(
            WriteRecord(
                controller=self._server.controller,
                connection=self.number,
                request=self.requests,
                mono_us=now.mono_us,
                utc_us=now.utc_us,
                values=values,
                taken=taken,
            )
        )
        for name in writing.names if taken else ():
            self._server.written(device, name, image.get(name))

    def _send(
        self,
        transaction: int,
        unit: int,
        pdu: bytes,
        sent: Callable[[], None] | None = None,
    ) -> None:
        if self.outgoing is not None:
            header = _HEADER.pack(transaction, 0, len(pdu) + 1, unit)
            self.outgoing.send(header + pdu, sent)
