"""One request to a service and what comes of it: tries, pauses, and errors in words.

Nothing here does I/O: `exchange` is a generator that asks for requests and pauses and is given
their outcomes, so that the sync and the async client share every decision.
"""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import httpx

from service.client.multipart import Upload
from vggish.common.wording import printable, shortened
from vggish.errors import OptionError, ServiceError, ServiceUnreachableError
from vggish.params import VERSION

# The service says of these that another try may go better.
RETRIED_STATUSES = frozenset({429, 503})

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 8.0

# Nobody listens, or the connection broke. A slow answer is no such thing: asking again would
# only give the service more to do.
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout, httpx.ProxyError)

_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)

_N_SHOWN = 80


@dataclass(frozen=True)
class Settings:
    """How a client talks to its service.

    Attributes:
        url: of the service, without a slash at the end.
        timeout_seconds: how long a connection, a piece of the body, or the answer may take.
        retries: further tries after one that failed in passing, at most.
        retry_seconds: no try begins later than this after the first one.
    """

    url: str
    timeout_seconds: float
    retries: int
    retry_seconds: float

    def __post_init__(self) -> None:
        _check_url(self.url)
        if not self.timeout_seconds > 0:
            raise OptionError(f"timeout_seconds must be above 0. Received: {self.timeout_seconds}")
        if self.retries < 0 or not self.retry_seconds >= 0:
            raise OptionError(
                "retries and retry_seconds must be at least 0. "
                f"Received: {self.retries} and {self.retry_seconds}"
            )


@dataclass(frozen=True)
class Call:
    """A request to make."""

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Upload | None = None


Outcome = httpx.Response | httpx.RequestError | None

Exchange = Generator[Call | float, Outcome, httpx.Response]


def exchange(settings: Settings, call: Call) -> Exchange:
    """Make a request, again where that is safe and may help.

    Yields:
        a `Call`: send it, and give the answer or the error; or seconds to wait.

    Returns:
        An answer of success.

    Raises:
        ServiceError: there was none; with what the problem document of the last answer says.
    """
    started = time.monotonic()
    n_tries = 0
    while True:
        outcome = yield call
        n_tries += 1
        pause = _pause(outcome, n_tries)
        elapsed = time.monotonic() - started
        is_last = n_tries > settings.retries or elapsed + (pause or 0) > settings.retry_seconds
        stuck = "" if call.body is None else call.body.stuck
        if pause is not None and not is_last and not stuck:
            yield pause
            continue
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return outcome
        hint = f".\nNot tried again, for {stuck} is a stream: send a path, or bytes"
        error = (
            _refusal(settings, outcome)
            if isinstance(outcome, httpx.Response)
            else _no_answer(settings, outcome, n_tries)
        )
        if pause is not None and not is_last:
            error.args = (f"{str(error).rstrip('.')}{hint}",)
        raise error from (None if isinstance(outcome, httpx.Response) else outcome)


def _refusal(settings: Settings, response: httpx.Response) -> ServiceError:
    """The error for an answer that is none of success."""
    if response.has_redirect_location:
        place = shortened(printable(response.headers["Location"]), 200)
        return _error(response, f"{settings.url} redirects to {place}; use that address")
    problem = _json_object(response) if _kind(response) == "application/problem+json" else None
    if problem is None:
        return _no_service(settings, response)
    return problem_error(problem, response)


def problem_error(problem: Mapping[str, Any], response: httpx.Response) -> ServiceError:
    """What a problem document (RFC 9457) says, as an error.

    Args:
        problem: the document; it may be that of one file among several.
        response: what it came with.
    """
    error = _error(response, "")
    error.status = _status(problem, response)
    error.type = str(problem.get("type", error.type))
    error.title, error.detail = str(problem.get("title", "")), str(problem.get("detail", ""))
    error.request_id = error.request_id or str(problem.get("instance", ""))
    told = f" (request {error.request_id})" if error.request_id else ""
    error.args = (f"{error.detail or error.title or response.reason_phrase}{told}",)
    return error


def _status(problem: Mapping[str, Any], response: httpx.Response) -> int:
    status = problem.get("status")
    return status if isinstance(status, int) else response.status_code


def answer(settings: Settings, response: httpx.Response) -> dict[str, Any]:
    """The JSON object that a service answered with.

    Raises:
        ServiceError: this is no answer of audiotag's service.
    """
    found = _json_object(response)
    if found is None:
        raise _no_service(settings, response)
    return found


def odd_answer(settings: Settings, response: httpx.Response, reason: object) -> ServiceError:
    """The error for an answer that is JSON and lacks what it should have."""
    return _error(
        response,
        f"{settings.url} gave an answer that audiotag {VERSION} does not understand: {reason}. "
        "Is it audiotag's service, and of the same version?",
    )


def retry_after_seconds(value: str | None) -> float | None:
    """What a header `Retry-After` means, seconds or a date; None if it means nothing.

    >>> retry_after_seconds("7"), retry_after_seconds("soon")
    (7.0, None)
    >>> retry_after_seconds("Fri, 31 Dec 1999 23:59:59 GMT")
    0.0
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date without a zone, which RFC 9110 does not allow, is meant as GMT all the same.
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def _pause(outcome: Outcome, n_tries: int) -> float | None:
    """Seconds to wait before another try; None if another would go as this one did."""
    wanted = None
    if isinstance(outcome, httpx.Response):
        if outcome.status_code not in RETRIED_STATUSES:
            return None
        wanted = retry_after_seconds(outcome.headers.get("Retry-After"))
    elif not isinstance(outcome, _BROKEN):
        return None
    # Jitter, so that clients that were turned away together do not come back together.
    grown = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (n_tries - 1))
    jitter = random.uniform(0.5, 1.0) * grown  # noqa: S311 no secret
    return jitter if wanted is None else wanted + 0.1 * jitter


def _no_answer(settings: Settings, error: Outcome, n_tries: int) -> ServiceError:
    """What to say when no answer came."""
    reason = printable(str(error)) or type(error).__name__
    tries = f", {n_tries} times" if n_tries > 1 else ""
    if isinstance(error, _NOT_CONNECTED):
        return ServiceUnreachableError(
            f"cannot connect to {settings.url}{tries}: {reason}.\n"
            "Is the service running there? Check the address; `audiotag serve` starts one here"
        )
    if isinstance(error, httpx.TimeoutException):
        return ServiceError(
            f"{settings.url} did not answer within {settings.timeout_seconds:g} s: send shorter "
            "sounds, or wait longer (timeout_seconds)"
        )
    trouble = f"the connection to {settings.url} broke off{tries}"
    if not isinstance(error, httpx.TransportError):
        trouble = f"{settings.url} gave an answer that cannot be decoded"
    return ServiceError(f"{trouble}: {reason.rstrip('.')}")


def _no_service(settings: Settings, response: httpx.Response) -> ServiceError:
    begin = shortened(" ".join(printable(response.text[:500]).split()), _N_SHOWN)
    return _error(
        response,
        f"{settings.url} answered {response.status_code} {response.reason_phrase} with "
        f"{_kind(response) or 'no type'}, "
        f"which is nothing that audiotag's service says: {begin!r}. Check the address, and "
        "proxies on the way",
    )


def _error(response: httpx.Response, message: str) -> ServiceError:
    return ServiceError(
        message,
        status=response.status_code,
        request_id=printable(response.headers.get("X-Request-ID", "")),
        retry_after_seconds=retry_after_seconds(response.headers.get("Retry-After")),
    )


def _kind(response: httpx.Response) -> str:
    return printable(response.headers.get("Content-Type", "").partition(";")[0].strip().lower())


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _check_url(url: str) -> None:
    """Refuse what is no address of a service."""
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as it is looked up
    except (httpx.InvalidURL, UnicodeError) as error:
        raise OptionError(f"{url!r} is no address of a service: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise OptionError(
            "the address of a service begins with http:// or https://, as "
            f"http://127.0.0.1:8000. Received: {url!r}"
        )
    if parsed.userinfo:
        raise OptionError(
            "the address of a service must not hold a user or password, which others could see; "
            f"use an API key. Received: one for {parsed.host}"
        )
    if parsed.query or parsed.fragment:
        raise OptionError(f"the address of a service has no ? and no #. Received: {url!r}")
