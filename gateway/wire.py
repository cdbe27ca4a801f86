"""The socket between paho and the broker: messages are taken out of the stream on the way in.

To paho it looks like a socket that never blocks on writing; what is written goes out together at
the next `flush`. What is waiting here is bounded by what paho and the receive maximum allow.
"""

import socket
import ssl
from typing import Any, Final

from gateway.packets import Publish, Stream

READS_MAX: Final = 8  # of a chunk, before others get the loop again
_WAIT: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire:
    """What paho uses as its socket. OSError from any call: the connection is gone."""

    def __init__(self, inner: Any, packet_bytes_max: int) -> None:
        if isinstance(inner, socket.socket):
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._inner = inner
        self._stream = Stream(packet_bytes_max)
        self._out = bytearray()
        self._is_ended = False

    def read(self, bytes_max: int) -> list[Publish]:
        """What has arrived, without waiting; nothing more is read above so many bytes.

        Rejected: no MQTT.
        """
        stream = self._stream
        size = 0
        for _ in range(READS_MAX):
            room = stream.room()
            try:
                count = self._inner.recv_into(room)
            except _WAIT:
                break
            if count == 0:
                self._is_ended = True
                break
            stream.filled(count)
            size += count
            if size >= bytes_max or (count < len(room) and not self.pending()):
                break
        found, stream.messages = stream.messages, []
        return found

    @property
    def has_rest(self) -> bool:
        """Paho has something to read: packets that are no messages, or the end."""
        return self._is_ended or bool(self._stream.rest)

    def flush(self) -> bool:
        """True: all went out; False: again when the socket can be written."""
        while self._out:
            try:
                sent = self._inner.send(self._out)
            except _WAIT:
                return False
            del self._out[:sent]
        return True

    def pending(self) -> int:
        """TLS holds bytes that no selector will ever report."""
        return self._inner.pending() if isinstance(self._inner, ssl.SSLSocket) else 0

    def recv(self, size: int) -> bytes:
        rest = self._stream.rest
        if not rest and not self._is_ended:
            raise BlockingIOError
        found = bytes(rest[:size])
        del rest[:size]
        return found

    def send(self, data: Any) -> int:
        self._out += data
        return len(data)

    def fileno(self) -> int:
        return int(self._inner.fileno())

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - as a socket has it
        self._inner.setblocking(flag)

    def close(self) -> None:
        """What was written last goes out if it can: paho closes behind its farewell."""
        try:
            self.flush()
        except OSError:
            self._is_ended = True
        self._inner.close()
