"""Problems with requests, as problem documents (RFC 9457)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from vggish.errors import (
    AudioError,
    AudioLimitError,
    AudiotagError,
    AudioTimeoutError,
    EmptyAudioError,
    NoSuchStreamError,
    OptionError,
)

MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """A kind of problem: HTTP status, title, and an explanation with what to do."""

    status: int
    title: str
    explanation: str


PROBLEMS: dict[str, Kind] = {
    "bad-request": Kind(
        400,
        "The request cannot be read",
        "The body or the headers do not follow HTTP or multipart/form-data.",
    ),
    "unreadable-audio": Kind(
        400,
        "The audio cannot be read",
        "The upload is not audio, is damaged, or has a format that the service cannot decode. "
        "WAV, FLAC, Ogg, MP3 and AIFF are always supported.",
    ),
    "empty-audio": Kind(
        400, "The audio is empty", "The upload has no samples. Send a longer recording."
    ),
    "unauthorized": Kind(
        401,
        "An API key is required",
        "Send a key in the header Authorization: Bearer KEY, or X-API-Key: KEY.",
    ),
    "forbidden": Kind(
        403, "Not allowed", "The API key is invalid, or the origin of the page is not allowed."
    ),
    "not-found": Kind(
        404, "No such address", "GET /openapi.json lists the addresses of the service."
    ),
    "unknown-model": Kind(404, "No such model", "GET /models lists the available models."),
    "method-not-allowed": Kind(
        405, "Method not allowed", "The header Allow lists the methods of this address."
    ),
    "not-acceptable": Kind(
        406,
        "No acceptable format",
        "The service cannot answer in any of the formats in the header Accept.",
    ),
    "upload-timeout": Kind(
        408, "The upload was too slow", "The body took too long to arrive. Send it again."
    ),
    "too-large": Kind(413, "The upload is too large", "Send a shorter or compressed recording."),
    "audio-too-long": Kind(
        413,
        "The audio is too long",
        "The recording is too long, or has too many channels or too high a sample rate. Split it, "
        "or convert it to mono.",
    ),
    "unsupported-media-type": Kind(
        415,
        "Unsupported media type",
        "Send multipart/form-data with the audio in the field 'file', or the audio itself with an "
        "audio content type.",
    ),
    "invalid-option": Kind(422, "Invalid option", "GET /openapi.json describes the options."),
    "rate-limited": Kind(
        429, "Too many requests", "Wait for as long as the header Retry-After says."
    ),
    "internal": Kind(
        500,
        "Internal error",
        "This is a fault of the service. Its log has the details under the request id.",
    ),
    "not-ready": Kind(
        503, "The service is not ready", "It is starting or stopping. Try again later."
    ),
    "overloaded": Kind(
        503, "The service is busy", "Try again after as long as the header Retry-After says."
    ),
    "deadline-exceeded": Kind(
        504, "Processing took too long", "Send a shorter recording, or try again later."
    ),
    "storage-full": Kind(
        507, "No space for the upload", "The service has no disk space left. Try again later."
    ),
}

# Errors of the tagger that the upload has caused, subclasses first.
_SLUGS: dict[type[AudiotagError], str] = {
    EmptyAudioError: "empty-audio",
    AudioLimitError: "audio-too-long",
    AudioTimeoutError: "deadline-exceeded",
    NoSuchStreamError: "invalid-option",
    AudioError: "unreadable-audio",
    OptionError: "invalid-option",
}


class Problem(AudiotagError):  # noqa: N818 - RFC 9457 calls it so
    """A request that cannot be served.

    Args:
        slug: one of `PROBLEMS`.
        detail: what is wrong with this request and what to do, for a person.
        retry_after_seconds: when to try again; also a member of the document.
        headers: additional headers of the response.
        extras: additional members of the document.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        retry_after_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
        **extras: Any,
    ) -> None:
        super().__init__(detail)
        self.slug = slug
        self.kind = PROBLEMS[slug]
        self.detail = detail
        self.headers = dict(headers or {})
        self.extras = extras
        if retry_after_seconds is not None:
            seconds = max(1, math.ceil(retry_after_seconds))
            self.headers["Retry-After"] = str(seconds)
            # A message of a stream has no headers.
            self.extras["retry_after_seconds"] = seconds

    def document(self, request_id: str) -> dict[str, Any]:
        """The document, ready for JSON."""
        return {
            "type": f"/problems/{self.slug}",  # on this service, which explains it there
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": request_id,
            **self.extras,
        }


def problem_response(problem: Problem, request_id: str) -> Response:
    """Make the response for a problem."""
    body = json.dumps(problem.document(request_id), ensure_ascii=False)
    return Response(body, problem.kind.status, problem.headers, MEDIA_TYPE)


def to_problem(error: AudiotagError) -> Problem:
    """Convert an error of the tagger to the problem of the client that sent the audio."""
    if isinstance(error, Problem):
        return error
    for kind, slug in _SLUGS.items():
        if isinstance(error, kind):
            # A second line may name an option of the command line.
            return Problem(slug, str(error).split("\n")[0])
    return Problem("internal", "the service failed to process this audio")
