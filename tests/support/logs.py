"""Logging of this process, put back as it was.

The command line configures it for a process of its own, so a command that a test runs inside this
one leaves a handler behind whose stream ends with that test: every later line would be an error.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from threadline.logs import CHATTY, MUTE


@contextmanager
def restored_logs() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, *CHATTY, *MUTE)]
    levels = [logger.level for logger in loggers]
    handlers = logging.getLogger().handlers[:]
    configured, config = structlog.is_configured(), structlog.get_config()
    try:
        yield
    finally:
        logging.getLogger().handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if configured:
            structlog.configure(**config)
        else:
            structlog.reset_defaults()
