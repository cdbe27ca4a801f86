"""Marks rows whose time nobody can vouch for. Pure."""

import numpy as np

from protocols.samples import NO_CODE, SEVERITY_MASK, Code, Quality, SampleBatch


def clock_unset(batch: SampleBatch) -> SampleBatch:
    """The same rows, good ones UNCERTAIN with code `clock_unset`: the agent's clock was not set."""
    good = (batch.quality & np.uint32(SEVERITY_MASK)) == 0
    unsaid = batch.code == NO_CODE
    return SampleBatch(
        batch.tags,
        batch.tag,
        batch.time,
        batch.kind,
        batch.values,
        np.where(good, np.uint32(Quality.UNCERTAIN), batch.quality),
        np.where(good & unsaid, np.int64(Code.CLOCK_UNSET), batch.code),
        batch.agent_time,
        batch.device_time,
    )
