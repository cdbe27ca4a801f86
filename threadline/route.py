"""The way of the frames from the broker to ingest: straight, or through a gateway and Kafka."""

from enum import StrEnum


class Route(StrEnum):
    """Both may serve one database at once; a demo or a test has one."""

    DIRECT = "direct"
    KAFKA = "kafka"
