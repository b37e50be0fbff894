"""What a service can be asked, and what its answers are: the requests and their reading.

Each function gives a generator as `client_exchange.exchange` is one, whose value is what the
client returns. Nothing here does I/O.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

import httpx
import numpy as np

from classifier.labels import Labels
from classifier.tags.choice import DEFAULT_TOP_K
from service.client.multipart import Upload
from service.client.retries import (
    Call,
    Outcome,
    Settings,
    answer,
    exchange,
    odd_answer,
    problem_error,
)
from service.documents import ModelLabels, ServiceModel, ServiceModels, ServiceTags, ServiceVersion
from vggish.errors import OptionError, ServiceError
from vggish.frames.clip import ClipFrames, frame_array

_Result = TypeVar("_Result")

Flow = Generator[Call | float, Outcome, _Result]

_Answer = Mapping[str, Any]

# What a reader meets in JSON that is not what the service says.
_ODD = (OptionError, LookupError, TypeError, ValueError, AttributeError, OverflowError)


class Wish(TypedDict, total=False):
    """What may be wanted of a sound, as keyword arguments; see `Wanted`."""

    top_k: int
    threshold: float
    labels: Sequence[str] | None
    exclude_labels: Sequence[str] | None
    frames: bool
    segments: bool
    tracks: bool
    model: str | None


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a sound.

    Attributes:
        top_k: at most so many tags, of the clip and of each frame.
        threshold: only tags with at least this score.
        labels: only these classes, by name or mid; None for all.
        exclude_labels: none of these classes.
        frames: ask for the tags of each frame.
        segments: ask when each tag is heard.
        tracks: ask for the scores of the clip's tags over time.
        model: which model is to listen; None for the service's default.

    Raises:
        OptionError: labels are no list of names.
    """

    top_k: int = DEFAULT_TOP_K
    threshold: float = 0.0
    labels: Sequence[str] | None = None
    exclude_labels: Sequence[str] | None = None
    frames: bool = False
    segments: bool = False
    tracks: bool = False
    model: str | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "exclude_labels"):
            if isinstance(getattr(self, name), str):
                raise OptionError(
                    f"{name} must be a list of names. Received: {getattr(self, name)!r}"
                )

    @property
    def params(self) -> list[tuple[str, str]]:
        """As the query of a request."""
        params = [("top_k", str(self.top_k)), ("threshold", str(self.threshold))]
        params += [("labels", label) for label in self.labels or ()]
        params += [("exclude_labels", label) for label in self.exclude_labels or ()]
        wanted = [name for name in ("frames", "segments", "tracks") if getattr(self, name)]
        params += [(name, "true") for name in wanted]
        return params if self.model is None else [*params, ("model", self.model)]


def classify(settings: Settings, upload: Upload, wanted: Wanted) -> Flow[ServiceTags]:
    """What is heard in a sound."""
    call = Call("POST", "/classify", wanted.params, upload.headers, upload)
    response = yield from exchange(settings, call)
    return _read(settings, response, ServiceTags.from_json)


def classify_batch(
    settings: Settings, upload: Upload, wanted: Wanted
) -> Flow[list[ServiceTags | ServiceError]]:
    """What is heard in several sounds; an error in the place of what failed."""
    call = Call("POST", "/classify/batch", wanted.params, upload.headers, upload)
    response = yield from exchange(settings, call)

    def read(found: _Answer) -> list[ServiceTags | ServiceError]:
        results = list(found["results"])
        if len(results) != len(upload.sounds):
            raise ValueError(f"{len(results)} results for {len(upload.sounds)} files")
        return [
            problem_error(result["problem"], response)
            if "problem" in result
            else ServiceTags.from_json(result)
            for result in results
        ]

    return _read(settings, response, read)


def embed(
    settings: Settings,
    upload: Upload,
    values: str,
    hop_seconds: float | None,
    tail: str,
    model: str | None,
) -> Flow[ClipFrames]:
    """The frames of a sound."""
    params = [("values", values)]
    params += [] if hop_seconds is None else [("hop_seconds", str(hop_seconds))]
    params += [("tail", tail)]
    params += [] if model is None else [("model", model)]
    call = Call("POST", "/embed", params, upload.headers, upload)
    response = yield from exchange(settings, call)

    def read(found: _Answer) -> ClipFrames:
        return ClipFrames(
            str(found["clip"]),
            frame_array(found["frames"], quantised=values == "uint8"),
            np.asarray(found["start_seconds"], np.float64),
            dict(found["metadata"]),
        )

    return _read(settings, response, read)


def models(settings: Settings) -> Flow[tuple[ServiceModel, ...]]:
    """The models that the service has."""
    response = yield from exchange(settings, Call("GET", "/models"))
    return _read(settings, response, lambda found: ServiceModels.from_json(found).models)


def labels(settings: Settings, model: str | None) -> Flow[Labels]:
    """The labels of a model, in the order of their indices."""
    params = [] if model is None else [("model", model)]
    response = yield from exchange(settings, Call("GET", "/labels", params))

    def read(found: _Answer) -> Labels:
        rows = sorted(ModelLabels.from_json(found).labels, key=lambda row: row.index)
        return Labels(tuple(row.label for row in rows), tuple(row.mid for row in rows))

    return _read(settings, response, read)


def version(settings: Settings) -> Flow[ServiceVersion]:
    """What the service is."""
    response = yield from exchange(settings, Call("GET", "/version"))
    return _read(settings, response, ServiceVersion.from_json)


def ready(settings: Settings) -> Flow[bool]:
    """Whether the service would take a sound now."""
    once = dataclasses.replace(settings, retries=0)
    try:
        response = yield from exchange(once, Call("GET", "/readyz"))
    except ServiceError as error:
        if error.status == httpx.codes.SERVICE_UNAVAILABLE:
            return False
        raise
    return _read(settings, response, lambda found: bool(found["status"] == "ready"))


def _read(
    settings: Settings, response: httpx.Response, read: Callable[[_Answer], _Result]
) -> _Result:
    try:
        return read(answer(settings, response))
    except _ODD as error:
        reason = f"{type(error).__name__}: {error}"
        raise odd_answer(settings, response, reason) from error
