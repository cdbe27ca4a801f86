"""Log lines of every process: one line per event on standard error, for people or for machines.

Called by the command line before a command runs. The deployables only ask structlog for a logger,
so they need nothing from here. It never decides what is logged.
"""

import logging
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import structlog  # takes a quarter of a second, so it waits for a command that logs


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# Libraries that log each request or packet below WARNING; theirs is not our one line per change.
CHATTY = ("asyncua", "amqtt", "httpx2", "pymodbus", "snap7", "transitions", "uvicorn.access")

# It logs each try at a server that is away; we name the trouble once, and its end.
MUTE = ("aiokafka",)


def configure_logs(
    log_format: LogFormat, log_level: LogLevel, *, stream: TextIO | None = None
) -> None:
    """Send structlog and the standard library's logging to the same stream in the same form."""
    import structlog

    stamps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *stamps,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # A module's logger that kept the first configuration would be deaf to any later one.
        cache_logger_on_first_use=False,
    )
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(log_format, coloured=target.isatty()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=log_level.upper(), force=True)
    quiet = max(logging.WARNING, logging.getLogger().level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(quiet)
    for name in MUTE:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _renderers(log_format: LogFormat, *, coloured: bool) -> "list[structlog.typing.Processor]":
    import structlog

    if log_format is LogFormat.JSON:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # The default shows every frame's variables: thousands of lines, and now and then a password.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=coloured, exception_formatter=plain)]
