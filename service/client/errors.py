"""Errors of the client, from what the service or the connection returned."""

from __future__ import annotations

import email.utils
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import httpx

from vggish.common.wording import printable, shortened
from vggish.errors import ServiceError, ServiceUnreachableError
from vggish.params import VERSION

NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)


def refusal_error(url: str, response: httpx.Response) -> ServiceError:
    """Make the error of a response whose status is not one of success."""
    if response.has_redirect_location:
        target = shortened(printable(response.headers["Location"]), 200)
        return _error(response, f"{url} redirects to {target}; use that address")
    problem = json_object(response) if _media_type(response) == "application/problem+json" else None
    if problem is None:
        return not_audiotag_error(url, response)
    return problem_error(problem, response)


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


def no_response_error(
    url: str, error: httpx.RequestError, n_attempts: int, timeout_seconds: float
) -> ServiceError:
    """Make the error of a request that got no response."""
    reason = printable(str(error)) or type(error).__name__
    attempts = f", {n_attempts} times" if n_attempts > 1 else ""
    if isinstance(error, NOT_CONNECTED):
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


def not_audiotag_error(url: str, response: httpx.Response) -> ServiceError:
    """Make the error of a response that no audiotag service would send."""
    start = shortened(" ".join(printable(response.text[:500]).split()), 80)
    return _error(
        response,
        f"{url} answered {response.status_code} {response.reason_phrase} with "
        f"{_media_type(response) or 'no content type'}, which is not an answer of an audiotag "
        f"service: {start!r}. Check the address and any proxies in between",
    )


def unexpected_document_error(
    url: str, response: httpx.Response, reason: Exception
) -> ServiceError:
    """Make the error of a JSON object that lacks what it should have."""
    return _error(
        response,
        f"audiotag {VERSION} does not understand the answer of {url}: "
        f"{type(reason).__name__}: {reason}. Is it an audiotag service of the same version?",
    )


def json_object(response: httpx.Response) -> dict[str, Any] | None:
    """Parse the body of a response; None if it is not a JSON object."""
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
