"""Records from Kafka, counted in the database; receipts into Kafka.

Owns a membership and a producer of receipts, both made anew after every failure.
"""

from collections.abc import Callable, Mapping, Sequence

from cloud.clock import Clock
from cloud.kafka_answers import KafkaAnswers
from cloud.kafka_log import KafkaSettings
from cloud.kafka_member import Member
from cloud.kafka_records import topics_of
from cloud.source import Appetite, Keeper, Record
from protocols.errors import Disconnected
from protocols.topics import RECEIPTS_TOPIC


class KafkaSource:
    """A `cloud.source.Source` that counts. `channels`: lanes, `hello`, `dead`.

    `on_lag` hears by topic how many records wait in Kafka, `on_lost` of each receipt that was taken
    and then not delivered.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        channels: Sequence[str],
        keeper: Keeper,
        clock: Clock,
        on_lag: Callable[[Mapping[str, int]], None] = lambda _: None,
        on_lost: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings = settings
        self._topics = topics_of(channels)
        self._keeper = keeper
        self._clock = clock
        self._on_lag = on_lag
        self._on_lost = on_lost
        self._member: Member | None = None
        self._answers: KafkaAnswers | None = None

    async def open(self) -> None:
        await self.close()
        self._member = Member(self._settings, self._topics, self._keeper, self._clock, self._on_lag)
        receipts = self._settings.prefix + RECEIPTS_TOPIC
        self._answers = KafkaAnswers(self._settings, receipts, self._on_lost)
        try:
            await self._member.open([RECEIPTS_TOPIC])
            await self._answers.open()
        except BaseException:
            await self.close()
            raise

    async def take(self, appetite: Appetite) -> Sequence[Record]:
        if self._member is None:
            raise Disconnected("not connected to Kafka")
        return await self._member.take(appetite)

    def holds(self, records: Sequence[Record]) -> bool:
        return self._member is not None and self._member.holds(records)

    async def acknowledge(self, records: Sequence[Record]) -> None:
        if self._member is not None:
            self._member.acknowledge(records)

    async def abandon(self, records: Sequence[Record]) -> None:
        if self._member is not None:
            self._member.abandon(records)

    async def answer(self, agent: str, receipt: bytes) -> None:
        if self._answers is None:
            raise Disconnected("not connected to Kafka")
        await self._answers.send(agent, receipt)

    async def close(self) -> None:
        member, self._member = self._member, None
        answers, self._answers = self._answers, None
        if member is not None:
            await member.close()
        if answers is not None:
            await answers.close()
