"""The S7 server of one controller: ISO-on-TCP framing around the answers of `s7wire`.

Own code, not python-snap7's server: that one runs a thread a client against memory that changes
beside it, so a response of several items is no snapshot, and it tells neither what bytes it sent
nor when they had left, which the journal needs.
"""

import json
from collections.abc import Callable, Mapping

from simulators.config import S7Controller
from simulators.datablocks import BlockImage
from simulators.image import OnWrite, Refresh
from simulators.journal import Journal, S7Item, WriteRecord, response_head
from simulators.listener import Link, Listener
from simulators.s7wire import GOOD, Answer, Block, Written, answer
from simulators.tags import path_of

_TPKT_BYTES = 4
_TPKT_VERSION = 3
_LEAST_TPKT_BYTES = 7
_MOST_REQUEST_BYTES = 4096
_CONFIRM, _DATA = 0xD0, 0xF0
_LAST_PART = 0x80
_CALLED, _TPDU_SIZE = 0xC2, 0xC0


class S7Server:
    """Serves the data blocks of one controller."""

    def __init__(
        self,
        controller: str,
        config: S7Controller,
        images: Mapping[str, BlockImage],
        journal: Journal,
        refresh: Refresh,
        written: OnWrite,
    ) -> None:
        self.controller = controller
        self.config = config
        self.journal = journal
        self.refresh = refresh
        self.written = written
        self.blocks = {
            number: Block(device, image, number)
            for device, image in images.items()
            for number in image.blocks
        }

    def listener(self, host: str, port: int) -> Listener:
        return Listener(host, port, lambda listener: _S7Link(listener, self))


class _S7Link(Link):
    def __init__(self, listener: Listener, server: S7Server) -> None:
        super().__init__(listener)
        self._server = server
        self._pdu_bytes = server.config.pdu_bytes
        self._parts = b""

    def take(self, received: bytearray) -> bytes | None:
        if len(received) < _TPKT_BYTES:
            return None
        length = int.from_bytes(received[2:4], "big")
        if received[0] != _TPKT_VERSION or length < _LEAST_TPKT_BYTES:
            raise ValueError("not ISO-on-TCP")
        if len(received) < length:
            return None
        request = bytes(received[_TPKT_BYTES:length])
        del received[:length]
        return request

    def serve(self, request: bytes) -> None:
        match request[1]:
            case 0xE0:
                self._send(_confirm(request, self._server.config), None)
            case 0xF0:
                self._serve_part(request)
            case _:
                raise ValueError("the peer ends the connection")

    def _serve_part(self, request: bytes) -> None:
        self._parts += request[3:]
        if len(self._parts) > _MOST_REQUEST_BYTES:
            raise ValueError("request too long")
        if request[2] & _LAST_PART:
            pdu, self._parts = self._parts, b""
            self._answer(pdu)

    def _answer(self, pdu: bytes) -> None:
        server = self._server
        result = answer(server.blocks, pdu, self._pdu_bytes, server.refresh)
        self._pdu_bytes = result.pdu_bytes or self._pdu_bytes
        for written in result.writes:
            self._note_write(written)
        self._send(bytes([2, _DATA, _LAST_PART]) + result.pdu, self._record(result))
        for written in result.writes:
            for name in written.names if written.code == GOOD else ():
                server.written(written.device, name, written.image.get(name))

    def _record(self, result: Answer) -> Callable[[], None] | None:
        if not result.items:
            return None
        journal = self._server.journal
        clock = journal.clock
        head = response_head(
            self._server.controller, self.number, self.requests, clock.mono_us(), clock.utc_us()
        )
        fields = f'"items":{json.dumps([_fields(item) for item in result.items])}'
        return lambda: journal.response(head, fields)

    def _note_write(self, written: Written) -> None:
        now = self._server.journal.now()
        self._server.journal.write(
            WriteRecord(
                controller=self._server.controller,
                connection=self.number,
                request=self.requests,
                mono_us=now.mono_us,
                utc_us=now.utc_us,
                values={
                    path_of(written.device, name): written.image.get(name) for name in written.names
                },
                taken=written.code == GOOD,
            )
        )

    def _send(self, payload: bytes, sent: Callable[[], None] | None) -> None:
        if self.outgoing is not None:
            length = _TPKT_BYTES + len(payload)
            self.outgoing.send(
                bytes([_TPKT_VERSION, 0]) + length.to_bytes(2, "big") + payload, sent
            )


def _fields(item: S7Item) -> list[int | str]:
    return [item.area, item.block, item.start, item.bit, item.code, item.raw.hex()]


def _confirm(request: bytes, config: S7Controller) -> bytes:
    """Accepts a connection to our rack and slot, at the size that the peer proposes."""
    parameters = b""
    at = 7
    while at + 2 <= len(request):
        code, length = request[at], request[at + 1]
        value = request[at + 2 : at + 2 + length]
        if code == _CALLED and value[-1:] != bytes([config.rack * 32 + config.slot]):
            raise ValueError("another rack or slot was called")
        if code in {_CALLED, _TPDU_SIZE, _CALLED - 1}:
            parameters += request[at : at + 2 + length]
        at += 2 + length
    peer = request[4:6]
    return bytes([6 + len(parameters), _CONFIRM]) + peer + b"\0\1\0" + parameters
