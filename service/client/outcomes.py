"""The outcomes of a request: a result, a pause and another attempt, or an error.

Nothing here does I/O, so the sync and the async client share every decision. tenacity is not used:
`Retry-After`, the time limit and the rule for streams would all be callbacks of ours.
"""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

import httpx

from service.client.calls import Call
from vggish.common.wording import printable, shortened
from vggish.errors import OptionError, ServiceError, ServiceUnreachableError
from vggish.params import VERSION

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 8.0
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
# No connection, or a broken one. A slow answer is not retried: it would only add to the load.
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout, httpx.ProxyError)
# Raised where JSON is not what an audiotag service sends.
_UNEXPECTED = (OptionError, LookupError, TypeError, ValueError, AttributeError, OverflowError)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class RetryPolicy:
    """How a client talks to its service, see `Client`; `url` has no slash at the end."""

    url: str
    timeout_seconds: float
    retries: int
    retry_seconds: float

    def __post_init__(self) -> None:
        try:
            parsed = httpx.URL(self.url)
            parsed.host.encode("idna")  # as the resolver does
        except (httpx.InvalidURL, UnicodeError) as error:
            raise OptionError(f"{self.url!r} is not the address of a service: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise OptionError(
                "the address of a service must begin with http:// or https://, such as "
                f"http://127.0.0.1:8000. Received: {self.url!r}"
            )
        if parsed.userinfo:
            raise OptionError(
                "the address of a service must not contain a user or password, which others could "
                f"see; use an API key. Received: an address of {parsed.host}"
            )
        if parsed.query or parsed.fragment:
            raise OptionError(
                f"the address of a service must not contain ? or #. Received: {self.url!r}"
            )
        if not self.timeout_seconds > 0:
            raise OptionError(f"timeout_seconds must be above 0. Received: {self.timeout_seconds}")
        if self.retries < 0 or not self.retry_seconds >= 0:
            raise OptionError(
                "retries and retry_seconds must be at least 0. "
                f"Received: {self.retries} and {self.retry_seconds}"
            )


class Attempts(Generic[_Result]):
    """The attempts of one call."""

    def __init__(self, policy: RetryPolicy, call: Call[_Result]) -> None:
        self._policy, self._call = policy, call
        self._started = time.monotonic()
        self._n = 0

    def pause_after(self, outcome: httpx.Response | httpx.RequestError) -> float | None:
        """Return the seconds to wait before the next attempt; None if the call has succeeded.

        Raises ServiceError if it has failed, with the details of the last problem document.
        """
        self._n += 1
        if isinstance(outcome, httpx.Response):
            is_not_ready = outcome.status_code == httpx.codes.SERVICE_UNAVAILABLE
            if outcome.is_success or (self._call.is_probe and is_not_ready):
                return None
        policy = self._policy
        pause = None if self._call.is_probe else _pause(outcome, self._n)
        elapsed = time.monotonic() - self._started
        if self._n > policy.retries or elapsed + (pause or 0) > policy.retry_seconds:
            pause = None
        stream = next((file.name for file in self._call.files if not file.is_seekable), None)
        if pause is not None and stream is None:
            return pause
        if isinstance(outcome, httpx.Response):
            error = _refusal_error(policy.url, outcome)
        else:
            error = _no_response_error(policy.url, outcome, self._n, policy.timeout_seconds)
        if pause is not None:
            hint = f"Not retried, because {stream} is a stream: send a path or bytes"
            error.args = (f"{str(error).rstrip('.')}.\n{hint}",)
        raise error from (outcome if isinstance(outcome, Exception) else None)

    def result(self, response: object) -> _Result:
        """Read the response of a call that has succeeded."""
        assert isinstance(response, httpx.Response)
        is_ready = response.is_success  # or it is a probe
        found = _json_object(response) if is_ready else {"status": "not ready"}
        if found is None:
            raise _not_audiotag_error(self._policy.url, response)
        try:
            return self._call.read(found)
        except _UNEXPECTED as error:
            raise _unexpected_document_error(self._policy.url, response, error) from error


def _pause(outcome: httpx.Response | httpx.RequestError, n_attempts: int) -> float | None:
    """Seconds to wait before the next attempt; None if it would fail in the same way."""
    requested = None
    if isinstance(outcome, httpx.Response):
        if outcome.status_code not in (429, 503):
            return None
        requested = retry_after_seconds(outcome.headers.get("Retry-After"))
    elif not isinstance(outcome, _BROKEN):
        return None
    # Jitter, so that clients that were refused together do not return together.
    backoff = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (n_attempts - 1))
    jitter = random.uniform(0.5, 1.0) * backoff  # noqa: S311 no secret
    return jitter if requested is None else requested + 0.1 * jitter


def _refusal_error(url: str, response: httpx.Response) -> ServiceError:
    if response.has_redirect_location:
        target = shortened(printable(response.headers["Location"]), 200)
        return _error(response, f"{url} redirects to {target}; use that address")
    is_problem = _media_type(response) == "application/problem+json"
    if is_problem and (problem := _json_object(response)) is not None:
        return problem_error(problem, response)
    return _not_audiotag_error(url, response)


def problem_error(
    problem: Mapping[str, Any], response: httpx.Response | None = None
) -> ServiceError:
    """Make the error of a problem document (RFC 9457), without a response for a file of a batch."""
    error = ServiceError("") if response is None else _error(response, "")
    status = problem.get("status")
    error.status = status if isinstance(status, int) else error.status
    error.type = str(problem.get("type", error.type))
    error.title, error.detail = str(problem.get("title", "")), str(problem.get("detail", ""))
    error.request_id = error.request_id or str(problem.get("instance", ""))
    message = error.detail or error.title or (response.reason_phrase if response else "")
    request = f" (request {error.request_id})" if error.request_id else ""
    error.args = (f"{message}{request}",)
    return error


def _no_response_error(
    url: str, error: httpx.RequestError, n_attempts: int, timeout_seconds: float
) -> ServiceError:
    reason = printable(str(error)) or type(error).__name__
    attempts = f", {n_attempts} times" if n_attempts > 1 else ""
    if isinstance(error, _NOT_CONNECTED):
        return ServiceUnreachableError(
            f"cannot connect to {url}{attempts}: {reason}.\n"
            "Is the service running there? Check the address; `audiotag serve` starts one here"
        )
    if isinstance(error, httpx.TimeoutException):
        return ServiceError(
            f"{url} did not answer within {timeout_seconds:g} s: send shorter clips, or increase "
            "timeout_seconds"
        )
    what = f"the connection to {url} broke off{attempts}"
    if not isinstance(error, httpx.TransportError):
        what = f"the response of {url} cannot be decoded"
    return ServiceError(f"{what}: {reason.rstrip('.')}")


def _not_audiotag_error(url: str, response: httpx.Response) -> ServiceError:
    start = shortened(" ".join(printable(response.text[:500]).split()), 80)
    return _error(
        response,
        f"{url} answered {response.status_code} {response.reason_phrase} with "
        f"{_media_type(response) or 'no content type'}, which is not an answer of an audiotag "
        f"service: {start!r}. Check the address and any proxies in between",
    )


def _unexpected_document_error(
    url: str, response: httpx.Response, reason: Exception
) -> ServiceError:
    return _error(
        response,
        f"audiotag {VERSION} does not understand the answer of {url}: "
        f"{type(reason).__name__}: {reason}. Is it an audiotag service of the same version?",
    )


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def retry_after_seconds(value: str | None) -> float | None:
    """Parse a `Retry-After` header, seconds or a date; None if it is neither.

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
    # RFC 9110 does not allow a date without a zone; it is read as GMT all the same.
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def _error(response: httpx.Response, message: str) -> ServiceError:
    return ServiceError(
        message,
        status=response.status_code,
        request_id=printable(response.headers.get("X-Request-ID", "")),
        retry_after_seconds=retry_after_seconds(response.headers.get("Retry-After")),
    )


def _media_type(response: httpx.Response) -> str:
    return printable(response.headers.get("Content-Type", "").partition(";")[0].strip().lower())
