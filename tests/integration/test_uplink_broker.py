"""The whole outbox on a real broker that is cut, killed, silent, hanging, refusing."""

import asyncio
import contextlib
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge.cut import Full
from edge.entries import State
from edge.mqtt import BrokerAddress, MqttBroker
from edge.outbox import Chance, OutboxSettings, SpoolOutbox, open_outbox
from edge.retention import Limits
from edge.spool_file import SpoolFile
from edge.uplink import Pace
from protocols.errors import Disconnected
from protocols.frames import Frame, Kind, Lane, Totals
from protocols.notices import Hello, Status, decode_notice
from protocols.receipts import Said
from protocols.retry import Backoff
from tests.support import cuts
from tests.support.certificates import Authority, Pair
from tests.support.mqtt_cloud import cloud_at
from tests.support.real_clock import RealClock
from tests.support.relay import Relay
from tests.support.services import need
from threadline.broker import Broker, BrokerSettings, Mosquitto, Tls
from threadline.children import Children

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

AGENT = "plant1.a"
MIB = 1024 * 1024
PATIENCE_S = 60.0  # for what surely comes, on a machine that does a lot beside
CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x03\x00\x01\x01"
QUICK = Pace(reconnect=Backoff(first_s=0.02, limit_s=0.2), resend=Backoff(first_s=1.0, limit_s=4.0))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Children]:
    """Children of one test: a broker that it may kill."""
    need("mosquitto")
    home = tmp_path / "services"
    home.mkdir()
    with Children(home) as started:
        yield started


def started(own: Children, settings: BrokerSettings | None = None) -> Mosquitto:
    broker = Mosquitto(own, settings)
    broker.start()
    return broker


@dataclass
class Line:
    outbox: SpoolOutbox
    task: "asyncio.Task[None]"

    async def put(self, number: int, rows: int = 30, events: int = 1) -> None:
        cut = cuts.cut(number, cuts.rows(number, rows), events=events)
        while True:
            try:
                self.outbox.put(cut)
            except Full:
                await self.outbox.room()
            else:
                return

    async def until(self, wanted: str) -> None:
        """A named state of the uplink."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.outbox.status().uplink.startswith(wanted):  # noqa: ASYNC110 - a state
                await asyncio.sleep(0.02)

    async def session(self, number: int) -> None:
        """The so-manieth session has begun."""
        await self.counted("sessions", number)

    async def counted(self, what: str, least: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.outbox.status().counters.get(what, 0) < least:  # noqa: ASYNC110 - a count
                await asyncio.sleep(0.02)

    async def stored(self) -> None:
        """Nothing waits any more."""
        async with asyncio.timeout(PATIENCE_S):
            await self.outbox.emptied()


@contextlib.asynccontextmanager
async def running(
    folder: Path, address: BrokerAddress, pace: Pace = QUICK, drain_s: float = 5.0
) -> AsyncIterator[Line]:
    limits = Limits(bytes_max=64 * MIB)
    settings = OutboxSettings(AGENT, folder, limits, "1", pace, drain_s, restarting=False)
    chance = Chance(lambda: secrets.randbits(64), random.random)
    outbox = open_outbox(settings, MqttBroker(address), RealClock(), chance)
    async with asyncio.TaskGroup() as tasks:
        yield Line(outbox, tasks.create_task(outbox.run()))
        await outbox.drain_and_stop()


def at(broker: Broker | Relay, **more: object) -> BrokerAddress:
    address = BrokerAddress(AGENT, "127.0.0.1", broker.port, keepalive_s=2.0, open_timeout_s=3.0)
    return replace(address, **more)  # type: ignore[arg-type]  # its own fields


def takes(_: Frame) -> Said:
    return Said.STORED


def check_identities(frames: list[Frame]) -> None:
    """Whatever was sent twice was sent with the same bytes; no number is missing."""
    sealed: dict[tuple[int, Lane, int], bytes] = {}
    for frame in frames:
        header = frame.header
        assert header.agent == AGENT
        key = header.epoch, header.lane, header.seq
        assert sealed.setdefault(key, frame.sealed) == frame.sealed
    for epoch, lane in {key[:2] for key in sealed}:
        seqs = {key[2] for key in sealed if key[:2] == (epoch, lane)}
        assert seqs == set(range(1, max(seqs) + 1))


def rows_of(frames: list[Frame]) -> int:
    """Sample rows, each frame once."""
    once = {frame.sealed: frame.header for frame in frames}
    return sum(header.rows for header in once.values() if header.kind is Kind.SAMPLES)


@contextlib.asynccontextmanager
async def relayed(broker: Broker) -> AsyncIterator[Relay]:
    relay = Relay(broker.host, broker.port)
    await relay.open()
    try:
        yield relay
    finally:
        await relay.close()


async def test_cut_fifty_times_while_writing_nothing_is_lost(tmp_path: Path, own: Children) -> None:
    broker = started(own)
    chance = random.Random(50)  # noqa: S311 - when it is cut, not a secret
    with cloud_at(broker.host, broker.port, takes) as cloud:
        await cloud.subscribed()
        async with (
            relayed(broker) as relay,
            running(tmp_path / "spool", at(relay)) as line,
        ):
            number = 0
            for session in range(1, 51):
                for _ in range(chance.randrange(1, 12)):
                    number += 1
                    await line.put(number)
                    await asyncio.sleep(0.002)
                await line.session(session)
                relay.cut()
            await line.stored()
        assert rows_of(cloud.numbered) == number * 30
        check_identities(cloud.numbered)


async def test_i2_a_broker_killed_with_what_it_acknowledged_loses_nothing(
    tmp_path: Path, own: Children
) -> None:
    broker = started(own)
    with cloud_at(broker.host, broker.port, takes) as cloud:
        await cloud.subscribed()
        async with running(tmp_path / "spool", at(broker)) as line:
            number = 0
            for _ in range(4):
                for _ in range(40):
                    number += 1
                    await line.put(number)
                    await asyncio.sleep(0.005)
                broker.kill()
                for _ in range(10):
                    number += 1
                    await line.put(number)
                broker.start()
            await line.stored()
        assert rows_of(cloud.numbered) == number * 30
        check_identities(cloud.numbered)


async def test_an_agent_killed_and_restarted_sends_the_old_epoch_as_it_was(
    tmp_path: Path, own: Children
) -> None:
    broker = started(own)
    async with running(tmp_path / "spool", at(broker), drain_s=0.0) as line:
        for number in range(20):
            await line.put(number)
        first = line.outbox.epoch
    with cloud_at(broker.host, broker.port, takes) as cloud:
        await cloud.subscribed()
        async with running(tmp_path / "spool", at(broker)) as line:
            assert line.outbox.recovered.state == {"binder": b"after 19"}
            await line.put(20)
            await line.stored()
            assert line.outbox.epoch != first
        assert {frame.header.epoch for frame in cloud.numbered} == {first, line.outbox.epoch}
        assert rows_of(cloud.numbered) == 21 * 30
        check_identities(cloud.numbered)
        hello = [one for one in cloud.frames if one.header.kind is Kind.HELLO][-1]
        lanes = decode_notice(Hello, hello.payload).lanes
        assert first in {one.epoch for one in lanes}


async def test_a_wire_that_hangs_is_noticed_by_the_keepalive(tmp_path: Path, own: Children) -> None:
    broker = started(own)
    with cloud_at(broker.host, broker.port, takes) as cloud:
        await cloud.subscribed()
        async with (
            relayed(broker) as relay,
            running(tmp_path / "spool", at(relay)) as line,
        ):
            await line.put(1)
            await line.stored()
            relay.hang()
            await line.put(2)
            await line.until("disconnected: the broker does not answer")
            relay.flow()
            relay.cut()
            await line.stored()
        assert rows_of(cloud.numbered) == 60


async def test_i2_a_broker_that_takes_and_loses_is_sent_a_bounded_number_again(
    tmp_path: Path, own: Children
) -> None:
    """Nobody answers: at most a window is out, and it comes again ever more rarely."""
    broker = started(own)
    with cloud_at(broker.host, broker.port) as cloud:
        await cloud.subscribed()
        async with running(tmp_path / "spool", at(broker), drain_s=0.0) as line:
            began_s = time.monotonic()
            for number in range(400):
                await line.put(number, events=0)
                await asyncio.sleep(0.002)
            await line.until("silent")
            await asyncio.sleep(4)
            per_frame = Counter(frame.sealed for frame in cloud.numbered)
            lanes = Counter(frame.header.lane for frame in cloud.numbered)
            lasted_s = time.monotonic() - began_s
            often = 4 + lasted_s / 2.8  # after 1, 2, 4, 4 … s, each cut by at most 30 %
            assert max(per_frame.values()) <= often
            out = {one.sealed for one in cloud.numbered if one.header.lane is Lane.LIVE}
            assert len(out) <= 256
            assert lanes[Lane.LIVE] <= often * 256
            cloud.answer = takes
            cloud.say(Said.STORED, cloud.numbered)
            await line.stored()
            await line.until("connected")


async def test_nobody_there_then_somebody(tmp_path: Path, own: Children) -> None:
    broker = Mosquitto(own)
    async with running(tmp_path / "spool", at(broker)) as line:
        await line.put(1)
        await line.until("disconnected: ")
        assert not line.outbox.status().connected
        broker.start()
        await line.until("connected")


async def test_a_wrong_password_is_a_named_state_and_the_right_one_is_let_in(
    tmp_path: Path, own: Children
) -> None:
    broker = started(own, BrokerSettings(passwords={"agent": "right"}))
    wrong = at(broker, username="agent", password="wrong")  # noqa: S106 - a test's
    async with running(tmp_path / "spool", wrong) as line:
        await line.until("refused: ")
    right = at(broker, username="agent", password="right")  # noqa: S106 - a test's
    async with running(tmp_path / "spool", right) as line:
        await line.until("connected")
        assert line.outbox.status().identity == "unproven"


async def used_up(broker: MqttBroker) -> str | None:
    """Why a session ended; None: it sits there, and its keepalive would end it."""
    try:
        async with asyncio.timeout(0.6):
            link = await broker.open()
            try:
                while True:
                    await link.receive()
            finally:
                await link.close()
    except Disconnected as gone:
        return gone.reason
    except TimeoutError:
        return None


async def test_a_peer_that_speaks_nonsense_is_a_session_that_ended() -> None:
    chance = random.Random(3)  # noqa: S311 - what it says, not a secret
    closing: set[asyncio.StreamWriter] = set()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closing.add(writer)
        await reader.read(100)
        greeting = chance.choice([b"", CONNACK, CONNACK + SUBACK])
        writer.write(greeting + chance.randbytes(chance.randrange(1, 40)))

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    broker = MqttBroker(BrokerAddress(AGENT, "127.0.0.1", port, open_timeout_s=0.3))
    ends = [await used_up(broker) for _ in range(20)]
    assert any(end is not None for end in ends)
    for writer in closing:
        writer.close()
    server.close()
    await server.wait_closed()


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Authority, Pair]:
    authority = Authority(tmp_path)
    return authority, authority.issue("broker")


async def test_a_client_certificate_proves_who_it_is(
    tmp_path: Path, own: Children, tls: tuple[Authority, Pair]
) -> None:
    authority, server = tls
    settings = Tls(server.certificate, server.key, authority.certificate, True)  # noqa: FBT003
    broker = started(own, BrokerSettings(tls=settings))
    mine = authority.issue(AGENT)
    proven = at(
        broker,
        tls=True,
        authority=authority.certificate,
        certificate=mine.certificate,
        key=mine.key,
    )
    async with running(tmp_path / "spool", proven) as line:
        await line.until("connected")
        assert line.outbox.status().identity == "proven"
        for number in range(50):
            await line.put(number, rows=5000)
        await line.counted("frames_sent", 80)
    without = at(broker, tls=True, authority=authority.certificate)
    async with running(tmp_path / "other", without) as line:
        await line.until("disconnected: ")


async def test_a_broker_whose_certificate_nobody_we_know_signed_is_refused(
    tmp_path: Path, own: Children, tls: tuple[Authority, Pair]
) -> None:
    authority, server = tls
    broker = started(
        own, BrokerSettings(tls=Tls(server.certificate, server.key, authority.certificate))
    )
    stranger = Authority(tmp_path, "stranger")
    address = at(broker, tls=True, authority=stranger.certificate)
    async with running(tmp_path / "spool", address) as line:
        await line.until("refused by us: the broker's certificate")


async def test_a_stop_sends_what_it_can_and_keeps_what_is_not_stored(
    tmp_path: Path, own: Children
) -> None:
    broker = started(own)
    with cloud_at(broker.host, broker.port, takes) as cloud:
        await cloud.subscribed()
        async with running(tmp_path / "spool", at(broker), drain_s=PATIENCE_S) as line:
            await line.until("connected")
            for number in range(50):
                await line.put(number)
        assert rows_of(cloud.numbered) == 50 * 30
    store = SpoolFile(tmp_path / "spool" / "current" / "spool.db")
    states = {state for held in store.holdings() for state in held.tallies}
    assert states == {State.STORED}
    store.close()


async def test_status_goes_out_unsequenced(tmp_path: Path, own: Children) -> None:
    broker = started(own)
    with cloud_at(broker.host, broker.port, takes) as cloud:
        await cloud.subscribed()
        async with running(tmp_path / "spool", at(broker)) as line:
            await line.until("connected")
            said = Status(
                agent=AGENT, epoch=line.outbox.epoch, at=cuts.event(1).at, read=7, stopping=True
            )
            line.outbox.send_notice(said)
            await cloud.until(lambda: any(f.header.kind is Kind.STATUS for f in cloud.frames))
        (status,) = [one for one in cloud.frames if one.header.kind is Kind.STATUS]
        assert (status.header.seq, status.header.lane) == (0, Lane.NONE)
        assert decode_notice(Status, status.payload) == said


async def test_totals_in_the_headers_are_what_was_put(tmp_path: Path, own: Children) -> None:
    broker = started(own)
    with cloud_at(broker.host, broker.port, takes) as cloud:
        await cloud.subscribed()
        async with running(tmp_path / "spool", at(broker)) as line:
            for number in range(10):
                cut = replace(cuts.cut(number, cuts.rows(number, 5)), totals=Totals(9, 1, 4, 1))
                line.outbox.put(cut)
            await line.stored()
        last = max(
            (one.header for one in cloud.numbered if one.header.kind is Kind.SAMPLES),
            key=lambda header: header.totals.read if header.totals else 0,
        )
        assert last.totals == Totals(90, 10, 40, 10)


async def test_i1_a_fork_is_told_to_the_agent_and_the_frames_come_again(
    tmp_path: Path, own: Children
) -> None:
    broker = started(own)
    forks: list[int] = []
    forked: set[bytes] = set()

    def answer(frame: Frame) -> Said:
        if not forked and frame.header.kind is Kind.SAMPLES and frame.header.seq > 3:
            forked.add(frame.payload)
            return Said.FORKED
        return Said.STORED

    with cloud_at(broker.host, broker.port, answer) as cloud:
        await cloud.subscribed()
        async with running(tmp_path / "spool", at(broker)) as line:
            line.outbox.on_forked = lambda: forks.append(line.outbox.epoch)
            first = line.outbox.epoch
            for number in range(30):
                await line.put(number)
                await asyncio.sleep(0.01)
            await line.stored()
            assert line.outbox.epoch != first
        assert len(forks) == 1
        again = [one for one in cloud.numbered if one.payload in forked]
        assert {one.header.epoch for one in again} == {first, line.outbox.epoch}
