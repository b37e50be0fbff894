"""What can go wrong with a request, as problem documents (RFC 9457)."""

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
    BundleError,
    EmptyAudioError,
    OptionError,
    WeightsError,
)

MEDIA_TYPE = "application/problem+json"
# Relative to the service, which explains each of them there.
TYPE_PREFIX = "/problems/"
# By then another process may have taken the place of one that stops.
_RETRY_STOPPED_SECONDS = 5


class Kind(NamedTuple):
    """A kind of problem: its HTTP status, its name, and what it means and calls for."""

    status: int
    title: str
    explanation: str


PROBLEMS: dict[str, Kind] = {
    "bad-request": Kind(
        400, "The request cannot be read", "Its body or headers do not follow HTTP or multipart."
    ),
    "unreadable-audio": Kind(
        400,
        "The sound cannot be read",
        "What was sent is no sound, is damaged, or is in a format that the service cannot decode. "
        "WAV, FLAC, Ogg, MP3 and AIFF always work.",
    ),
    "empty-audio": Kind(
        400, "There is no sound", "What was sent holds no samples. Send a recording that has some."
    ),
    "unauthorized": Kind(
        401,
        "An API key is needed",
        "Send a key in the header Authorization: Bearer KEY, or X-API-Key: KEY.",
    ),
    "forbidden": Kind(
        403, "Not allowed", "The API key is not one of the service's, or the page's origin is not."
    ),
    "not-found": Kind(404, "There is nothing at this address", "GET /openapi.json lists them."),
    "unknown-model": Kind(404, "There is no such model", "GET /models lists those that there are."),
    "method-not-allowed": Kind(
        405, "This address takes other methods", "The header Allow lists them."
    ),
    "not-acceptable": Kind(
        406, "There is no answer in that format", "The header Accept names none that there is."
    ),
    "upload-timeout": Kind(
        408, "The upload was too slow", "The body took too long to arrive. Send it again."
    ),
    "too-large": Kind(413, "The upload is too large", "Send a shorter or compressed recording."),
    "audio-too-long": Kind(
        413,
        "There is too much sound",
        "The recording goes on for too long, or has too many channels or too high a sample rate. "
        "Cut it into pieces, or mix it down.",
    ),
    "unsupported-media-type": Kind(
        415,
        "The body is of a type that is not taken",
        "Send multipart/form-data with the sound in the field 'file', or the sound itself with an "
        "audio content type.",
    ),
    "invalid-option": Kind(
        422, "An option cannot be honoured", "GET /openapi.json describes the options."
    ),
    "rate-limited": Kind(
        429, "Too many requests", "Wait for as long as the header Retry-After says."
    ),
    "internal": Kind(
        500,
        "The service failed",
        "This is a fault of the service. Its log has more under the id of the request.",
    ),
    "not-ready": Kind(
        503, "The service is not ready", "It is starting or stopping. Try again in a while."
    ),
    "overloaded": Kind(
        503, "The service is busy", "Try again after as long as the header Retry-After says."
    ),
    "deadline-exceeded": Kind(
        504, "It took too long", "Send a shorter recording, or try again when there is less to do."
    ),
    "storage-full": Kind(
        507, "There is no room for the upload", "The service has no disk space left. Try later."
    ),
}


# What an error of the tagger is to whoever sent the sound; the narrower one first.
_SLUGS: dict[type[AudiotagError], str] = {
    EmptyAudioError: "empty-audio",
    AudioLimitError: "audio-too-long",
    AudioTimeoutError: "deadline-exceeded",
    AudioError: "unreadable-audio",
    OptionError: "invalid-option",
}


class Problem(AudiotagError):  # noqa: N818 - the name that RFC 9457 has for it
    """A request that cannot be served as it is.

    Args:
        slug: one of `PROBLEMS`.
        detail: what is wrong here and what to do, for a person.
        retry_after_seconds: when to try again; also a member of the document.
        headers: of the answer, besides.
        extras: members of the document, besides.
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
            # A stream has no headers.
            self.extras["retry_after_seconds"] = seconds

    def document(self, request_id: str) -> dict[str, Any]:
        """The problem document, ready for JSON."""
        return {
            "type": TYPE_PREFIX + self.slug,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": request_id,
            **self.extras,
        }


def stopping() -> Problem:
    """The problem of a request that comes, or is not done yet, when the service stops."""
    return Problem(
        "not-ready",
        "the service is stopping; send the request again",
        retry_after_seconds=_RETRY_STOPPED_SECONDS,
    )


def problem_response(problem: Problem, request_id: str) -> Response:
    """The answer that tells of a problem."""
    return Response(
        json.dumps(problem.document(request_id), ensure_ascii=False),
        problem.kind.status,
        problem.headers,
        MEDIA_TYPE,
    )


def problem_of(error: AudiotagError) -> Problem:
    """The problem that an error of the tagger is to whoever sent the sound."""
    if isinstance(error, Problem):
        return error
    # Messages may name an option as the command line has it, on a second line.
    detail = str(error).split("\n")[0]
    for kind, slug in _SLUGS.items():
        if isinstance(error, kind):
            return Problem(slug, detail)
    if isinstance(error, (BundleError, WeightsError)):
        return Problem("internal", "the model failed on this sound")
    return Problem("internal", "the service failed on this sound")
