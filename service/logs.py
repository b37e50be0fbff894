"""The service's log on stderr: one event a line, as JSON or as text."""

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
# The id of the current request, also in threads that work for it.
request_id: ContextVar[str] = ContextVar("request_id", default="")
# Attribute of exceptions that are logged already, so that uvicorn does not log them again.
LOGGED = "_audiotag_logged"

# Messages of uvicorn about events that audiotag logs itself.
_REPEATED = frozenset(
    {
        "Application startup failed. Exiting.",
        # Java's client and `curl --http2` ask for h2c in every request, and go on without it.
        "Unsupported upgrade request.",
        # Logged for a WebSocket that was refused.
        "ASGI callable returned without completing handshake.",
    }
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def configure(config: ServiceConfig) -> None:
    """Send all logs of this process to stderr, in the configured format and level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_news)
    is_text = config.log_format == "text" or (
        config.log_format == "auto" and sys.stderr is not None and sys.stderr.isatty()
    )
    handler.setFormatter(TextFormatter() if is_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("audiotag").setLevel(config.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        server = logging.getLogger(name)
        server.handlers.clear()
        server.propagate = True
        # audiotag logs requests, starts and stops itself.
        server.setLevel(logging.INFO if config.log_level == "debug" else logging.WARNING)
    logging.captureWarnings(True)


def print_to_stderr(text: str) -> None:
    """Print a message for the person who started the service, at any log level."""
    if sys.stderr is not None:
        # A single write, which `print` does not guarantee: workers write to stderr, too.
        sys.stderr.write(printable(f"audiotag: {text}") + "\n")
        sys.stderr.flush()


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id, and extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
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
    """One line, such as `12:03:04 info: message  key=value`, followed by any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        time = _time(record).astimezone().strftime("%H:%M:%S")
        extras = "".join(f"  {key}={value}" for key, value in _extras(record))
        message = one_line(f"{record.getMessage().strip()}{extras}")
        lines = [f"{time} {record.levelname.lower()}: {printable(message)}"]
        if record.exc_info and record.exc_info[1] is not None:
            lines.append(printable(self.formatException(record.exc_info)))
        return "\n".join(lines)


def _time(record: logging.LogRecord) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)


def _extras(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """The id of the request, and the fields that the caller passed as `extra`."""
    extras = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    current = request_id.get()
    if current and "request_id" not in extras:
        yield "request_id", current
    yield from extras.items()


def _is_news(record: logging.LogRecord) -> bool:
    """Whether audiotag has not logged the event of a record itself."""
    error = record.exc_info[1] if record.exc_info else None
    is_repeated = record.msg in _REPEATED or getattr(error, LOGGED, False)
    return not (record.name.startswith("uvicorn") and is_repeated)
