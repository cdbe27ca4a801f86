"""The OPC UA server of one controller: asyncua's server with its own way for reads and writes.

Sessions, channels, browsing and the standard nodes are asyncua's. Values live in our images: reads
of them are answered here, because a response must be one snapshot, cheap, and known to have left.
Subscriptions are refused (BadServiceUnsupported) until notifications can be journaled as well.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from asyncua import Server, ua
from asyncua.common.utils import Buffer, ServiceError
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from simulators.config import OpcuaController
from simulators.image import OnWrite, Refresh
from simulators.journal import Journal, WriteRecord, response_head
from simulators.nodes import VARIANT_TYPES, Node, NodeImage, ticks_of
from simulators.opcuawire import Asked, give, read_response
from simulators.outgoing import Outgoing
from simulators.standardspace import StandardSpace


def _node_id(identifier: int | str, index: int = 0) -> ua.NodeId:
    return ua.NodeId(identifier, index)  # type: ignore[arg-type]  # the library takes plain ones


def _name(name: str, index: int) -> ua.QualifiedName:
    return ua.QualifiedName(name, index)


_READ = _node_id(ua.ObjectIds.ReadRequest_Encoding_DefaultBinary)
_WRITE = _node_id(ua.ObjectIds.WriteRequest_Encoding_DefaultBinary)
_SUBSCRIBE = _node_id(ua.ObjectIds.CreateSubscriptionRequest_Encoding_DefaultBinary)
_MOST_CACHED_REQUESTS = 256


class OpcuaServer:
    """Serves the nodes of one controller; stays the same through `stop` and `start`."""

    def __init__(
        self,
        controller: str,
        config: OpcuaController,
        images: Mapping[str, NodeImage],
        journal: Journal,
        refresh: Refresh,
        written: OnWrite,
    ) -> None:
        self.controller = controller
        self.config = config
        self.images = images
        self.journal = journal
        self.refresh = refresh
        self.written = written
        self.port = config.port
        self.hung = False
        self.connections = 0
        self.links: set[_Link] = set()
        self.namespace_index = 0
        self.nodes: dict[ua.NodeId, tuple[str, str, Node]] = {}
        self.requests: dict[bytes, ReadPlan] = {}
        self._library = _Library(self)
        self._built = False
        self._strangers = 0

    async def start(self) -> None:
        if not self._built:
            await self._build()
            self._built = True
        if self._library.bserver is None:
            await self._library.listen()

    async def restart_with_moved_namespace(self) -> None:
        """Comes back as after a download to the PLC: same nodes, another namespace index."""
        await self.close()
        self._strangers += 1
        self._library = _Library(self)
        self._built = False
        self.nodes.clear()
        self.requests.clear()
        await self.start()

    async def stop(self) -> None:
        """Ends listening and all connections; the address space stays."""
        for link in list(self.links):
            link.drop()
        if self._library.bserver is not None:
            await self._library.bserver.stop()
            self._library.bserver = None
        self.hung = False

    async def close(self) -> None:
        """Stops for good."""
        await self.stop()
        if self._built:
            await self._library.iserver.stop()

    def hang(self) -> None:
        self.hung = True

    def resume(self) -> None:
        self.hung = False
        for link in list(self.links):
            if link.left_unanswered:
                link.drop()

    async def _build(self) -> None:
        library = self._library
        await library.init()
        library.set_endpoint(f"opc.tcp://{self.config.host}:{self.config.port}/")
        library.set_server_name(f"simulated {self.controller}")
        library.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        limit = library.get_node(
            _node_id(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead)
        )
        await limit.write_value(ua.Variant(self.config.nodes_per_read, ua.VariantType.UInt32))
        for number in range(self._strangers):
            await library.register_namespace(f"urn:stranger:{number}")
        index = await library.register_namespace(self.config.namespace)
        self.namespace_index = index
        for device, image in self.images.items():
            folder = await library.nodes.objects.add_object(
                _node_id(device, index), _name(device, index)
            )
            for name, node in image.nodes.items():
                node_id = _node_id(node.path, index)
                self.nodes[node_id] = (device, name, node)
                variable = await folder.add_variable(
                    node_id, _name(node.path, index), _variant(node)
                )
                if node.tag.written:
                    await variable.set_writable()


class ReadPlan:
    """A read request understood once: which nodes are ours, which are the library's."""

    def __init__(self, server: OpcuaServer, parameters: ua.ReadParameters) -> None:
        self.parameters = parameters
        self.asked: list[Asked | None] = []
        self.devices: set[str] = set()
        for value_id in parameters.NodesToRead or []:
            found = server.nodes.get(value_id.NodeId)
            if found is None or value_id.AttributeId != ua.AttributeIds.Value:
                self.asked.append(None)
            else:
                self.devices.add(found[0])
                self.asked.append(Asked(found[2], value_id.IndexRange or ""))
        ours = tuple(asked.path for asked in self.asked if asked is not None)
        self.node_set = server.journal.node_set(ours) if ours else 0
        self.foreign = [
            value_id
            for value_id, asked in zip(parameters.NodesToRead or [], self.asked, strict=True)
            if asked is None
        ]


class _Library(Server):
    """asyncua's server, listening with our connections."""

    def __init__(self, plant: OpcuaServer) -> None:
        super().__init__(iserver=StandardSpace())
        self._plant = plant
        self._running = False

    async def listen(self) -> None:
        """Starts the internal server once, and a socket on the same port each time."""
        if not self._running:
            await self._setup_server_nodes()
            await self.iserver.start()
            self._running = True
        plant = self._plant
        listening = _Listening(plant, self)
        listening.set_policies(self._policies)
        await listening.start()
        self.bserver = listening
        plant.port = listening.port


class _Listening(BinaryServer):
    def __init__(self, plant: OpcuaServer, library: _Library) -> None:
        super().__init__(library.iserver, plant.config.host, plant.port, library.limits)
        self._plant = plant

    def _make_protocol(self) -> OPCUAProtocol:
        return _Link(self._plant, self)


class _Link(OPCUAProtocol):
    """One connection."""

    def __init__(self, plant: OpcuaServer, listening: _Listening) -> None:
        super().__init__(
            iserver=listening.iserver,
            policies=listening._policies,  # noqa: SLF001  # set by the library's own server
            clients=listening.clients,
            closing_tasks=listening.closing_tasks,
            limits=listening.limits,
        )
        self.left_unanswered = False
        self._plant = plant
        self._outgoing: Outgoing | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.processor is None or not isinstance(transport, asyncio.Transport):
            return
        self._plant.connections += 1
        self._plant.links.add(self)
        self._outgoing = Outgoing(transport)
        self.processor = _Processor(self._plant, self, transport, self._outgoing)
        self.processor.set_policies(self.policies)

    def data_received(self, data: bytes) -> None:
        if self._plant.hung:
            self.left_unanswered = True
            return
        super().data_received(data)

    def pause_writing(self) -> None:
        """Nothing to do: `resume_writing` tells that the buffer has drained."""

    def resume_writing(self) -> None:
        if self._outgoing is not None:
            self._outgoing.drained()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._plant.links.discard(self)
        if self._outgoing is not None:
            self._outgoing.lost()
        super().connection_lost(exc)

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _Processor(UaProcessor):
    """Answers reads and writes of our nodes, leaves the rest to the library."""

    def __init__(
        self,
        plant: OpcuaServer,
        link: _Link,
        transport: asyncio.Transport,
        outgoing: Outgoing,
    ) -> None:
        super().__init__(link.iserver, transport, link.limits)
        self._plant = plant
        self._outgoing = outgoing
        self._number = plant.connections
        self._count = 0

    async def _process_message(
        self,
        typeid: ua.NodeId,
        requesthdr: Any,  # the library's generated classes
        seqhdr: Any,  # the library's generated classes
        body: Buffer,
    ) -> bool:
        self._count += 1
        if typeid == _SUBSCRIBE:
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        session = self.session
        if session is not None and session.is_activated():
            if typeid == _READ:
                return await self._read(requesthdr, seqhdr, body)
            if typeid == _WRITE:
                return await self._write(requesthdr, seqhdr, body)
        return bool(await super()._process_message(typeid, requesthdr, seqhdr, body))

    async def _read(self, requesthdr: Any, seqhdr: Any, body: Buffer) -> bool:  # as above
        self._touch()
        plan = self._plan(body)
        if len(plan.asked) > self._plant.config.nodes_per_read:
            raise ServiceError(ua.StatusCodes.BadTooManyOperations)
        foreign = iter(await self._read_foreign(plan))
        plant = self._plant
        for device in plan.devices:
            plant.refresh(device)
        journal = plant.journal
        mono_us, utc_us = journal.clock.mono_us(), journal.clock.utc_us()
        now_ticks = ticks_of(utc_us)
        timestamps = int(plan.parameters.TimestampsToReturn)
        parts: list[bytes] = []
        fragments: list[str] = []
        statuses: list[str] = []
        for asked in plan.asked:
            if asked is None:
                parts.append(next(foreign))
                continue
            given = give(asked, timestamps, now_ticks)
            if given.status:
                statuses.append(f'"{len(fragments)}":{given.status}')
            parts.append(given.encoded)
            fragments.append(given.fragment)
        body_bytes = read_response(requesthdr.RequestHandle, now_ticks, parts)
        message = self._connection.message_to_binary(body_bytes, request_id=seqhdr.RequestId)
        head = response_head(plant.controller, self._number, self._count, mono_us, utc_us)
        fields = f'"set":{plan.node_set},"values":[{",".join(fragments)}]'
        if statuses:
            fields += f',"statuses":{{{",".join(statuses)}}}'
        sent = (lambda: journal.response(head, fields)) if fragments else None
        self._outgoing.send(message, sent)
        return True

    def _plan(self, body: Buffer) -> ReadPlan:
        """A poller sends the same request for ever: understand it once."""
        raw = bytes(body)
        plan = self._plant.requests.get(raw)
        if plan is None:
            plan = ReadPlan(self._plant, struct_from_binary(ua.ReadParameters, body))
            if len(self._plant.requests) >= _MOST_CACHED_REQUESTS:
                self._plant.requests.clear()
            self._plant.requests[raw] = plan
        return plan

    async def _read_foreign(self, plan: ReadPlan) -> list[bytes]:
        if not plan.foreign or self.session is None:
            return []
        parameters = ua.ReadParameters(
            TimestampsToReturn=plan.parameters.TimestampsToReturn, NodesToRead=plan.foreign
        )
        results = await self.session.read(parameters)
        return [struct_to_binary(result) for result in results]

    async def _write(self, requesthdr: Any, seqhdr: Any, body: Buffer) -> bool:  # as above
        self._touch()
        parameters = struct_from_binary(ua.WriteParameters, body)
        results = [await self._write_one(value) for value in parameters.NodesToWrite or []]
        response = ua.WriteResponse()
        response.Results = results
        self.send_response(requesthdr.RequestHandle, seqhdr, response)
        return True

    async def _write_one(self, value: ua.WriteValue) -> ua.StatusCode:
        found = self._plant.nodes.get(value.NodeId)
        if found is None or value.AttributeId != ua.AttributeIds.Value:
            if self.session is None:
                return ua.StatusCode(ua.UInt32(ua.StatusCodes.BadSessionIdInvalid))
            parameters = ua.WriteParameters()
            parameters.NodesToWrite = [value]
            (result,) = await self.session.write(parameters)
            return result
        device, name, node = found
        status = _judge(node, value)
        self._note_write(node, value, status)
        if status == ua.StatusCodes.Good:
            self._plant.images[device].put(name, value.Value.Value.Value)
            self._plant.written(device, name, node.value)
        return ua.StatusCode(ua.UInt32(status))

    def _note_write(self, node: Node, value: ua.WriteValue, status: int) -> None:
        now = self._plant.journal.now()
        variant = value.Value.Value
        written = variant.Value if variant is not None else None
        plain = written if isinstance(written, bool | int | float | str | list) else repr(written)
        self._plant.journal.write(
            WriteRecord(
                controller=self._plant.controller,
                connection=self._number,
                request=self._count,
                mono_us=now.mono_us,
                utc_us=now.utc_us,
                values={node.path: plain},
                taken=status == ua.StatusCodes.Good,
            )
        )

    def _touch(self) -> None:
        """For both watchdogs of the library: the session's, and the connection's over it."""
        self.session_last_activity = time.monotonic()
        if self.session is not None:
            self.session.touch()


def _judge(node: Node, value: ua.WriteValue) -> int:
    if not node.tag.written:
        return int(ua.StatusCodes.BadNotWritable)
    if value.IndexRange:
        return int(ua.StatusCodes.BadWriteNotSupported)
    variant = value.Value.Value
    expected = VARIANT_TYPES[node.tag.kind]
    if variant is None or variant.VariantType.value != expected or variant.is_array:
        return int(ua.StatusCodes.BadTypeMismatch)
    return int(ua.StatusCodes.Good)


def _variant(node: Node) -> ua.Variant:
    """The value at build time only gives the node its data type and rank."""
    kind = ua.VariantType(VARIANT_TYPES[node.tag.kind])
    if kind is ua.VariantType.DateTime:
        return ua.Variant(ua.DateTime(1970, 1, 1), kind)
    return ua.Variant(node.value, kind, is_array=bool(node.tag.count))
