"""One OPC UA session: the only I/O of this driver.

Channel and session are asyncua's, without its supervisor and its background tasks: the runtime at
the edge reopens, and the channel is renewed by the read that finds it due. Requests are encoded
once and responses decoded by our own pure modules.
"""

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from asyncua import Client, ua
from asyncua.client.ua_client import UaClient, UASocketProtocol
from asyncua.crypto import security_policies
from asyncua.ua.status_codes import get_name_and_doc
from asyncua.ua.ua_binary import nodeid_to_binary
from cryptography.exceptions import InvalidSignature

from protocols.addressing import Unfit
from protocols.driver import Clock, NotOffered, Plan, Write
from protocols.drivers.opcua.address import NodeName, Range, parse
from protocols.drivers.opcua.config import OpcuaConnection
from protocols.drivers.opcua.decode import micros_of
from protocols.drivers.opcua.layout import Reader
from protocols.drivers.opcua.planner import OpcuaPlan
from protocols.drivers.opcua.response import Response, Result, decode_read, decode_write
from protocols.drivers.opcua.times import Moment, set_times
from protocols.drivers.opcua.wire import (
    EPOCH_TICKS,
    READ_REQUEST,
    WRITE_REQUEST,
    Timestamps,
    encode_header,
    encode_node_id,
    encode_read,
    encode_variant,
    encode_write,
)
from protocols.errors import ConfigError, Disconnected, Problem, Rejected
from protocols.reading import Sheet
from protocols.samples import NO_TIME, Code, Column, Quality, SampleBatch

_NAMESPACES: Final = NodeName(0, "i", "2255")
_NODES_PER_READ: Final = NodeName(0, "i", "11705")
_UNKNOWN_INDEX: Final = 0xFFFF  # no server has it: it answers BadNodeIdUnknown
_RESOLVE_AGAIN_S: Final = 30.0
_UNTIL_CLOSED_S: Final = 1.0
_LOOP_TURNS_MAX: Final = 10
_MESSAGE_BYTES_MAX: Final = 16 * 2**20
_RENEW_AT: Final = 0.75  # of the channel's life (Part 4, 5.5.2.1)
_TOO_MUCH: Final = frozenset({0x80100000, 0x80B80000, 0x80B90000, 0x80080000, 0x80800000})
_UNKNOWN_NODE: Final = int(Quality.BAD_NODE_ID_UNKNOWN)

# What asyncua lets out; what its parsing of a broken message raises is among it.
_LIBRARY: Final = (ua.UaError, OSError, ValueError, struct.error, InvalidSignature, AssertionError)
_MODES: Final = {
    "Sign": ua.MessageSecurityMode.Sign,
    "SignAndEncrypt": ua.MessageSecurityMode.SignAndEncrypt,
}

# The runtime logs a device that goes and comes; the library would log every attempt.
logging.getLogger("asyncua").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class _Request:
    """One read of the nodes from `first` to before `end`, encoded."""

    first: int
    end: int
    body: bytes
    reader: Reader


@dataclass(slots=True)
class _Route:
    """A plan as this session reads it, and the source times that it saw last."""

    requests: list[_Request]
    sources: Column
    last_us: int = NO_TIME


class OpcuaDevice:
    """protocols.driver.Device."""

    def __init__(self, connection: OpcuaConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._client: _Session | None = None
        self._namespaces: dict[str, int] = {}
        self._resolved_s = 0.0
        self._resolve_at_s = 0.0
        self._renew_at_s = 0.0
        self._nodes_max = connection.nodes_per_read_max
        self._routes: WeakKeyDictionary[OpcuaPlan, _Route] = WeakKeyDictionary()

    @property
    def facts(self) -> Mapping[str, str]:
        security = f"{self._connection.security_policy}"
        return {"nodes_per_read": str(self._nodes_max), "security": security}

    async def open(self) -> None:
        await self.close()
        self._client = _Session(self._connection)
        try:
            with _door(self._connection.url):
                await self._client.open()
            self._renew_at_s = self._clock.monotonic_s() + self._client.life_s * _RENEW_AT
            await self._learn()
        except BaseException:
            await self._give_up()
            raise

    async def read(self, plan: Plan) -> SampleBatch:
        if not isinstance(plan, OpcuaPlan):
            raise TypeError(f"not a plan of this driver: {plan!r}")
        client = self._opened()
        await self._keep_up(client)
        route = self._route_of(plan)
        sheet = Sheet(plan.rows)
        waiting = list(reversed(route.requests))
        while waiting:
            waiting += reversed(await self._read_part(plan, route, waiting.pop(), sheet))
        if plan.nodes:
            route.last_us = self._clock.now_us()
        return sheet.batch()

    async def _read_part(
        self, plan: OpcuaPlan, route: _Route, request: _Request, sheet: Sheet
    ) -> list[_Request]:
        """One request's nodes into the sheet; returned: what to ask instead."""
        with _door("read"):
            body = await self._opened().exchange(READ_REQUEST, request.body, self._clock)
            arrival_us = self._clock.now_us()
            found = request.reader.read(body, sheet)
        count = request.end - request.first
        if found.status in _TOO_MUCH and count > 1:
            self._nodes_max = (count + 1) // 2
            self._routes.clear()  # other plans were cut for the old limit
            return self._encode(plan, request.first, request.end)
        if found.status or found.count != count:
            raise _lost("read", found.status or ua.StatusCodes.BadUnexpectedError)
        cells = plan.cells_of(request.first, request.end)
        moment = Moment(arrival_us, micros_of(found.ticks), route.last_us)
        set_times(sheet, cells, found.sources, route.sources[cells], moment, self._connection)
        route.sources[cells] = found.sources
        if found.unknown:
            self._resolve_at_s = min(self._resolve_at_s, self._resolved_s + _RESOLVE_AGAIN_S)
        return []

    async def write(self, values: Sequence[Write]) -> None:
        refused: dict[int, str] = {}
        for row, value in enumerate(values):
            reason = await self._write(value)
            if reason:
                refused[row] = f"{value.tag.path}: {reason}"
        if refused:
            raise Rejected("; ".join(refused.values()), tuple(refused))

    async def _write(self, write: Write) -> str:
        """Why the server or the value's type refuses it; empty: written."""
        client = self._opened()
        address = parse(write.tag)
        if address.is_array:
            return "an array cannot be written, only an element"
        range_ = address.range
        if range_ is not None and address.index is not None:
            range_ = Range(range_.first + address.index, range_.first + address.index)
        try:
            variant = encode_variant(address.type, write.value, as_array=range_ is not None)
        except Unfit as error:
            return str(error)
        body = encode_write(self._encode_node(address.node), range_, variant)
        with _door("write"):
            response = decode_write(await client.exchange(WRITE_REQUEST, body, self._clock))
        if response.status or len(response.results) != 1:
            raise _lost("write", response.status or ua.StatusCodes.BadUnexpectedError)
        return describe_status(response.results[0]) if any(response.results) else ""

    def subscribe(self, plan: Plan, interval_s: float) -> AsyncIterator[SampleBatch]:  # noqa: ARG002  # the port's
        raise NotOffered("subscriptions are not offered yet: poll instead")

    async def close(self) -> None:
        client = self._client
        if client is None:
            return
        try:
            with suppress(Disconnected), _door("leave"):
                async with asyncio.timeout(min(self._connection.timeout_s, _UNTIL_CLOSED_S)):
                    await client.leave()
        finally:
            await self._give_up()

    async def _give_up(self) -> None:
        client, self._client = self._client, None
        self._routes.clear()
        if client is not None:
            await client.abort()

    def _opened(self) -> "_Session":
        if self._client is None:
            raise Disconnected("not open", Code.DISCONNECTED)
        return self._client

    async def _ask(self, body: bytes) -> Response[Result]:
        with _door("read"):
            return decode_read(await self._opened().exchange(READ_REQUEST, body, self._clock))

    async def _keep_up(self, client: "_Session") -> None:
        """Renew the channel when due; look again for namespaces that were not there."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._renew_at_s:
            with _door("renew the channel"):
                await client.renew()
            self._renew_at_s = now_s + client.life_s * _RENEW_AT
        if now_s >= self._resolve_at_s:
            await self._learn()

    async def _learn(self) -> None:
        """The server's namespaces and its limit of nodes per read."""
        nodes = [(encode_node_id(name, 0), None) for name in (_NAMESPACES, _NODES_PER_READ)]
        response = await self._ask(encode_read(nodes, Timestamps.NEITHER))
        if response.status or len(response.results) != len(nodes):
            raise _lost("namespaces", response.status or ua.StatusCodes.BadUnexpectedError)
        uris, limit = (result.value for result in response.results)
        found = {uri: number for number, uri in enumerate(uris or ()) if isinstance(uri, str)}
        if found != self._namespaces:
            self._namespaces = found
            self._routes.clear()
        configured = self._connection.nodes_per_read_max
        self._nodes_max = min(configured, limit) if isinstance(limit, int) and limit else configured
        self._resolved_s = self._clock.monotonic_s()
        self._resolve_at_s = float("inf")

    def _route_of(self, plan: OpcuaPlan) -> _Route:
        route = self._routes.get(plan)
        if route is None:
            requests = self._encode(plan, 0, len(plan.nodes))
            route = _Route(requests, np.full(plan.rows.cells, NO_TIME, np.int64))
            self._routes[plan] = route
        return route

    def _encode(self, plan: OpcuaPlan, first: int, end: int) -> list[_Request]:
        """Reads of these nodes, each within what the server takes."""
        requests = []
        for start in range(first, end, self._nodes_max):
            stop = min(start + self._nodes_max, end)
            nodes = [(self._encode_node(n.name), n.range) for n in plan.nodes[start:stop]]
            body = encode_read(nodes, Timestamps.SOURCE)
            requests.append(_Request(start, stop, body, Reader(plan, start)))
        return requests

    def _encode_node(self, name: NodeName) -> bytes:
        if isinstance(name.namespace, int):
            return encode_node_id(name, name.namespace)
        return encode_node_id(name, self._namespaces.get(name.namespace, _UNKNOWN_INDEX))


class _Channel(UASocketProtocol):
    """asyncua's secure channel, which also sends what is encoded already."""

    def post(self, message: bytes) -> asyncio.Future[Any]:
        """One message; the future brings the response's body. OSError: the channel is closed."""
        if self.transport is None:
            raise ConnectionResetError("the connection is closed")
        self.revolve_security_token()
        request_id = self._request_id + 1
        data = self._connection.message_to_binary(message, request_id=request_id)
        self._request_id = request_id
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._callbackmap[request_id] = future
        self.transport.write(data)
        return future

    def next_handle(self) -> int:
        self._request_handle += 1
        return self._request_handle


class _Transport(UaClient):
    """asyncua's transport with our channel."""

    def _make_protocol(self) -> UASocketProtocol:
        protocol = _Channel(self._timeout, security_policy=self.security_policy)
        protocol.on_connection_lost = self._on_transport_lost
        protocol.is_session_closing = self._is_session_closing
        self.protocol = protocol
        return protocol


class _Session:
    """One connection from socket to activated session."""

    def __init__(self, connection: OpcuaConnection) -> None:
        self._connection = connection
        self._library = Client(connection.url, timeout=connection.timeout_s)
        self._library.uaclient = _Transport(connection.timeout_s)
        self._library.application_uri = connection.application_uri
        self._library.session_timeout = round(connection.session_timeout_s * 1000)
        self._library.max_messagesize = _MESSAGE_BYTES_MAX
        self._channel: _Channel | None = None
        self._token = b""

    @property
    def life_s(self) -> float:
        """Of the channel, as the server granted it."""
        return self._library.secure_channel_timeout / 1000

    async def open(self) -> None:
        await self._secure()
        await self._library.connect_socket()
        channel = self._library.uaclient.protocol
        assert isinstance(channel, _Channel)  # noqa: S101  # narrows; our transport makes no other
        self._channel = channel
        await self._library.send_hello()
        await self._library.open_secure_channel()
        await self._library.create_session()
        password = self._connection.password
        await self._library.activate_session(
            self._connection.user, password.get_secret_value() if password else None
        )
        self._token = nodeid_to_binary(channel.authentication_token)

    async def exchange(self, kind: bytes, body: bytes, clock: Clock) -> bytes:
        """The body of the response. OSError, TimeoutError: there is none."""
        channel = self._channel
        if channel is None:
            raise ConnectionResetError("not open")
        timeout_s = self._connection.timeout_s
        ticks = clock.now_us() * 10 + EPOCH_TICKS
        header = encode_header(self._token, ticks, channel.next_handle(), timeout_s)
        async with asyncio.timeout(timeout_s):
            return bytes(await channel.post(kind + header + body))

    async def renew(self) -> None:
        await self._library.open_secure_channel(renew=True)

    async def leave(self) -> None:
        """Say goodbye: the server frees the session at once."""
        await self._library.close_session()
        await self._library.close_secure_channel()

    async def abort(self) -> None:
        channel, self._channel = self._channel, None
        if channel is None or channel.transport is None:
            return
        channel.transport.abort()
        for _ in range(_LOOP_TURNS_MAX):  # asyncio reports the loss in its next turn
            if channel.is_closed:
                return
            await asyncio.sleep(0)

    async def _secure(self) -> None:
        """ConfigError: a file that is no certificate or key."""
        how = self._connection
        if how.security_policy == "none":
            return
        mode = _MODES[how.security_mode]
        try:
            await self._library.set_security(
                getattr(security_policies, f"SecurityPolicy{how.security_policy}"),
                str(how.certificate),
                str(how.key),
                how.key_password.get_secret_value() if how.key_password else None,
                str(how.server_certificate),
                mode,
            )
        except (ValueError, TypeError, OSError, ua.UaError) as error:
            files = f"{how.certificate}, {how.key}, {how.server_certificate}"
            why = f"these are not our certificate, its key and the server's certificate: {error}"
            remedy = "Give PEM or DER files, and key_password if the key has one."
            raise ConfigError([Problem("certificate", files, why, remedy)]) from error


@contextmanager
def _door(doing: str) -> Iterator[None]:
    """Where the library's exceptions end."""
    try:
        yield
    except ua.UaStatusCodeError as error:
        raise _lost(doing, error.code) from error
    except TimeoutError as error:
        raise Disconnected(f"{doing}: no answer in time", Code.TIMEOUT) from error
    except _LIBRARY as error:
        reason = f"{doing}: {type(error).__name__} {error}"
        raise Disconnected(reason, Code.DISCONNECTED) from error


def _lost(doing: str, status: int) -> Disconnected:
    return Disconnected(f"{doing}: {describe_status(status)}", status)


def describe_status(status: int) -> str:
    """A status code's name and meaning."""
    name, meaning = get_name_and_doc(status)
    return f"{name} (0x{status:08X}): {meaning}"
