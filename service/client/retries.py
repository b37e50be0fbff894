"""Decide after each attempt of a request: return the result, wait and retry, or give up.

Nothing here does I/O, so the sync and the async client share every decision. tenacity is not used:
`Retry-After`, the time limit and the rule for streams would all be callbacks of ours.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Generic, TypeVar

import httpx

from service.client import errors
from service.client.calls import Call
from vggish.errors import OptionError

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 8.0
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
        _check_url(self.url)
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
        self._policy = policy
        self._call = call
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
            error = errors.refusal_error(policy.url, outcome)
        else:
            error = errors.no_response_error(policy.url, outcome, self._n, policy.timeout_seconds)
        if pause is not None:
            hint = f"Not retried, because {stream} is a stream: send a path or bytes"
            error.args = (f"{str(error).rstrip('.')}.\n{hint}",)
        raise error from (outcome if isinstance(outcome, Exception) else None)

    def result(self, response: object) -> _Result:
        """Read the response of a call that has succeeded."""
        assert isinstance(response, httpx.Response)
        is_ready = response.is_success  # or it is a probe
        found = errors.json_object(response) if is_ready else {"status": "not ready"}
        if found is None:
            raise errors.not_audiotag_error(self._policy.url, response)
        try:
            return self._call.read(found)
        except _UNEXPECTED as error:
            raise errors.unexpected_document_error(self._policy.url, response, error) from error


def _pause(outcome: httpx.Response | httpx.RequestError, n_attempts: int) -> float | None:
    """Seconds to wait before the next attempt; None if it would fail in the same way."""
    requested = None
    if isinstance(outcome, httpx.Response):
        if outcome.status_code not in (429, 503):
            return None
        requested = errors.retry_after_seconds(outcome.headers.get("Retry-After"))
    elif not isinstance(outcome, _BROKEN):
        return None
    # Jitter, so that clients that were refused together do not return together.
    backoff = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (n_attempts - 1))
    jitter = random.uniform(0.5, 1.0) * backoff  # noqa: S311 no secret
    return jitter if requested is None else requested + 0.1 * jitter


def _check_url(url: str) -> None:
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as the resolver does
    except (httpx.InvalidURL, UnicodeError) as error:
        raise OptionError(f"{url!r} is not the address of a service: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise OptionError(
            "the address of a service must begin with http:// or https://, such as "
            f"http://127.0.0.1:8000. Received: {url!r}"
        )
    if parsed.userinfo:
        raise OptionError(
            "the address of a service must not contain a user or password, which others could "
            f"see; use an API key. Received: an address of {parsed.host}"
        )
    if parsed.query or parsed.fragment:
        raise OptionError(f"the address of a service must not contain ? or #. Received: {url!r}")
