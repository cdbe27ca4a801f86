"""Log lines have one form, whether ours by structlog or a library's by logging."""

import io
import json
import logging

import structlog
from structlog.testing import capture_logs

from tests.support.logs import restored_logs
from threadline.logs import CHATTY, LogFormat, LogLevel, configure_logs


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_structlog_and_logging_write_the_same_json() -> None:
    stream = io.StringIO()
    configure_logs(LogFormat.JSON, LogLevel.INFO, stream=stream)
    structlog.get_logger("edge.agent").info("device down", device="press", after_s=2.5)
    logging.getLogger("some.library").warning("odd packet %d", 7)
    ours, theirs = lines(stream)
    assert ours["event"] == "device down"
    assert ours["device"] == "press"
    assert ours["logger"] == "edge.agent"
    assert theirs["event"] == "odd packet 7"
    assert ours.keys() >= {"level", "timestamp"} <= theirs.keys()


def test_the_level_holds_for_both_and_chatty_libraries_are_kept_quiet() -> None:
    stream = io.StringIO()
    configure_logs(LogFormat.JSON, LogLevel.INFO, stream=stream)
    structlog.get_logger("edge").debug("not shown")
    logging.getLogger("asyncua.client").info("each request")
    logging.getLogger("aiokafka.consumer.fetcher").error("each try")
    assert lines(stream) == []


def test_an_exception_travels_in_its_line() -> None:
    stream = io.StringIO()
    configure_logs(LogFormat.JSON, LogLevel.INFO, stream=stream)
    try:
        int("broken on purpose")
    except ValueError:
        structlog.get_logger("edge").exception("task restarted")
    (line,) = lines(stream)
    assert "broken on purpose" in str(line["exception"])


def test_people_get_one_readable_line() -> None:
    stream = io.StringIO()
    configure_logs(LogFormat.CONSOLE, LogLevel.INFO, stream=stream)
    structlog.get_logger("edge").warning("device down", device="press")
    assert "device down" in stream.getvalue()
    assert "device=press" in stream.getvalue()


def test_people_see_where_an_exception_was_and_no_variable() -> None:
    stream = io.StringIO()
    configure_logs(LogFormat.CONSOLE, LogLevel.INFO, stream=stream)
    password = "-".join(["very", "secret"])
    try:
        int(password + "x")
    except ValueError:
        structlog.get_logger("edge").exception("task restarted")
    shown = stream.getvalue()
    assert "Traceback" in shown
    assert "password = " not in shown


def test_a_command_run_inside_a_test_leaves_logging_as_it_was() -> None:
    root, library = logging.getLogger(), logging.getLogger(CHATTY[0])
    before = root.handlers[:], root.level, library.level, structlog.get_config()
    ours = structlog.get_logger("edge.agent")
    with restored_logs():
        stream = io.StringIO()
        configure_logs(LogFormat.CONSOLE, LogLevel.DEBUG, stream=stream)
        ours.warning("device down")
        stream.close()
    assert (root.handlers, root.level, library.level, structlog.get_config()) == before
    with capture_logs() as lines:
        ours.warning("device up")
    assert [line["event"] for line in lines] == ["device up"]
