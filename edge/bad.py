"""BAD rows for reads that were not answered. Pure.

A tag whose type nobody has told yet has no tag version, so it gets no row: a wrong type would open
a version that never was.
"""

from collections.abc import Iterable

import numpy as np

from protocols.driver import TagSpec
from protocols.errors import Disconnected
from protocols.samples import Code, DataType, Quality, SampleBatch, Tag, ValueClass

_QUALITY = {
    Code.TIMEOUT: Quality.BAD_TIMEOUT,
    Code.DISCONNECTED: Quality.BAD_NO_COMMUNICATION,
}


class Shape:
    """The tag versions that a plan's rows have; learnt from the device where the plan is silent."""

    def __init__(self, specs: Iterable[TagSpec]) -> None:
        self._types: dict[str, DataType | None] = {spec.path: _declared(spec) for spec in specs}
        self._tags: tuple[Tag, ...] | None = None
        self._learnt: tuple[Tag, ...] | None = None

    def learn(self, batch: SampleBatch) -> None:
        if self._learnt is batch.tags:
            return
        self._learnt, self._tags = batch.tags, None
        self._types.update((tag.path, tag.type) for tag in batch.tags)

    @property
    def tags(self) -> tuple[Tag, ...]:
        if self._tags is None:
            self._tags = tuple(Tag(path, kind) for path, kind in self._types.items() if kind)
        return self._tags

    def bad_rows(self, gone: Disconnected, now_us: int) -> SampleBatch:
        """One row per tag, without a value, saying why."""
        rows = len(self.tags)
        code = Code.DISCONNECTED if gone.code is None else gone.code
        quality = _QUALITY.get(Code(code)) if code in _OURS else Quality.BAD_COMMUNICATION_ERROR
        return SampleBatch(
            self.tags,
            np.arange(rows, dtype=np.int32),
            np.full(rows, now_us, np.int64),
            np.full(rows, ValueClass.NONE, np.uint8),
            {},
            np.full(rows, quality or Quality.BAD, np.uint32),
            np.full(rows, code, np.int64),
        )


_OURS = frozenset(int(code) for code in Code)


def _declared(spec: TagSpec) -> DataType | None:
    if spec.type is None or (spec.scale == 1.0 and spec.offset == 0.0):
        return spec.type
    return DataType.FLOAT64S if spec.type.is_array else DataType.FLOAT64
