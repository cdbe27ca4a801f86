"""Many frames whose values can be counted: what is stored twice or not at all is seen."""

import numpy as np

from protocols.frames import Frame, Lane
from protocols.samples import NO_CODE, DataType, SampleBatch, Tag, ValueClass
from tests.support.frames import AgentVoice, sample

ROWS = 20  # of a small frame


def some_frames(voice: AgentVoice, count: int, lane: Lane = Lane.LIVE) -> list[Frame]:
    """Each with values of its own, so that what is stored twice or not at all can be counted."""
    first = voice.seqs.get(lane, 0)
    return [
        voice.samples(
            [
                sample(f"d.x{row}", DataType.INT32, time_us + row, number * ROWS + row)
                for row in range(ROWS)
            ],
            lane=lane,
        )
        for number in range(first, first + count)
        for time_us in (voice.now_us + number * 1000,)
    ]


def large_frames(
    voice: AgentVoice, count: int, *, rows: int = 8000, lane: Lane = Lane.BACKLOG
) -> list[Frame]:
    """Frames that keep a COPY busy: each value once in all of the lane's."""
    tags = tuple(Tag(f"d.y{n:03}", DataType.FLOAT64) for n in range(100))
    found = []
    for _ in range(count):
        number = voice.seqs.get(lane, 0)
        values = np.arange(number * rows, (number + 1) * rows)
        batch = SampleBatch(
            tags,
            (values % len(tags)).astype(np.int32),
            voice.now_us + values,
            np.full(rows, ValueClass.F64, np.uint8),
            {ValueClass.F64: values.astype(np.float64)},
            np.zeros(rows, np.uint32),
            np.full(rows, NO_CODE, np.int64),
        )
        found.append(voice.samples(batch, lane=lane))
    return found
