"""The service's log: a line an event on stderr, as JSON for machines or as text for people."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from service.settings.config import ServiceConfig
from vggish.common.wording import one_line, printable

log = logging.getLogger("audiotag.service")
# Of the request that is being answered; in threads too that were started for it.
request_id: ContextVar[str] = ContextVar("request_id", default="")
# Set on an exception that is in the log already, for the server below would log it again.
LOGGED = "_audiotag_logged"

# What the server below says of itself where audiotag says it better.
_REPEATED = frozenset(
    {
        "Application startup failed. Exiting.",
        "Invalid HTTP request received.",
        # Of a WebSocket that is refused, as of one that is forgotten, which there is none of.
        "ASGI callable returned without completing handshake.",
    }
)
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def configure(config: ServiceConfig) -> None:
    """Send all logs of this process to stderr, in the format and from the level that is set."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_news)
    is_text = config.log_format == "text" or (
        config.log_format == "auto" and sys.stderr is not None and sys.stderr.isatty()
    )
    handler.setFormatter(TextFormatter() if is_text else JsonFormatter())
    level = config.log_level.upper()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("audiotag").setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        server = logging.getLogger(name)
        server.handlers.clear()
        server.propagate = True
        # What it does is told by audiotag; its warnings are not.
        server.setLevel(logging.INFO if config.log_level == "debug" else logging.WARNING)
    logging.captureWarnings(True)


def print_to_stderr(text: str) -> None:
    """Say something in plain words to whoever started the service, whatever is logged."""
    if sys.stderr is not None:
        # In one piece, which `print` does not promise: workers write there, too.
        sys.stderr.write(printable(f"audiotag: {text}") + "\n")
        sys.stderr.flush()


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, message, request_id, what else is told."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": _time(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip(),
            **dict(_extras(record)),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A line as `12:03:04 info: message  key=value`; a traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        time = _time(record).astimezone().strftime("%H:%M:%S")
        extras = "".join(f"  {key}={value}" for key, value in _extras(record))
        told = one_line(f"{record.getMessage().strip()}{extras}")
        lines = [f"{time} {record.levelname.lower()}: {printable(told)}"]
        if record.exc_info and record.exc_info[1] is not None:
            lines.append(printable(self.formatException(record.exc_info)))
        return "\n".join(lines)


def _time(record: logging.LogRecord) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)


def _extras(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """The id of the request, and what the caller gave as `extra`."""
    extras = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
    current = request_id.get()
    if current and "request_id" not in extras:
        yield "request_id", current
    yield from extras.items()


def _is_news(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    is_repeated = record.msg in _REPEATED or getattr(error, LOGGED, False)
    return not (record.name.startswith("uvicorn") and is_repeated)
