"""The requests of the client: one description of each, for the sync and the async client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

import numpy as np

from classifier.labels import Labels
from classifier.tags.choice import Choice, ChoiceOptions
from service.client.audio_file import AudioFile, open_audio_file
from service.client.errors import problem_error
from service.documents import (
    MAX_TOP_K,
    ModelLabels,
    ServiceModel,
    ServiceModels,
    ServiceTags,
    ServiceVersion,
)
from vggish.audio.sources import AudioSource
from vggish.common.choices import Tail, Values
from vggish.errors import OptionError, ServiceError
from vggish.frames.clip import ClipFrames, frame_array

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Result = TypeVar("_Result")

_Params = list[tuple[str, str]]


@dataclass(frozen=True)
class Call(Generic[_Result]):
    """A request and how to read its response.

    Attributes:
        method: HTTP method.
        path: path below the address of the service.
        read: converts the JSON object of the response to the result.
        params: query parameters.
        files: clips to upload.
        field: form field of the files.
        is_probe: whether 503 means the status "not ready", and nothing is retried.
    """

    method: str
    path: str
    read: Callable[[Mapping[str, Any]], _Result]
    params: _Params
    files: Sequence[AudioFile] = ()
    field: str = "file"
    is_probe: bool = False

    def close(self) -> None:
        """Close the files that were opened for the request."""
        for file in self.files:
            file.close()


class ClassifyArguments(ChoiceOptions, total=False):
    """Keyword arguments of `Client.classify`, besides those of `Choice`.

    Attributes:
        frames: return the tags of each frame.
        segments: return when each tag is detected.
        tracks: return the scores of the clip's tags over time.
        model: name of the model; None for the service's default.
    """

    frames: bool
    segments: bool
    tracks: bool
    model: str | None


class EmbedArguments(TypedDict, total=False):
    """Keyword arguments of `Client.embed`.

    Attributes:
        values: values of the frames ("uint8" by default), see `vggish.EmbedOptions`.
        hop_seconds: time from one frame to the next; None for 0.96.
        tail: pad the last frame with silence ("pad", the default), or leave it out ("drop").
        model: name of the model whose embedder is used; None for the service's default.
    """

    values: Values
    hop_seconds: float | None
    tail: Tail
    model: str | None


def classify(
    source: AudioSource, name: str | None, options: ClassifyArguments
) -> Call[ServiceTags]:
    """Tag one clip."""
    params = _classify_params(**options)
    files = [open_audio_file(source, name)]
    return Call("POST", "/classify", ServiceTags.from_json, params, files)


def classify_batch(
    sources: Sequence[AudioSource], options: ClassifyArguments
) -> Call[list[ServiceTags | ServiceError]]:
    """Tag several clips in one request; the result has an error in place of each failed clip."""
    params = _classify_params(**options)
    with ExitStack() as stack:  # closes the files if one of them cannot be opened
        files = []
        for source in sources:
            files.append(open_audio_file(source))
            stack.callback(files[-1].close)
        if not files:
            raise OptionError("a batch needs at least one clip. Received: none")
        stack.pop_all()

    def read(found: Mapping[str, Any]) -> list[ServiceTags | ServiceError]:
        results = list(found["results"])
        if len(results) != len(files):
            raise ValueError(f"{len(results)} results for {len(files)} files")
        return [
            problem_error(each["problem"]) if "problem" in each else ServiceTags.from_json(each)
            for each in results
        ]

    return Call("POST", "/classify/batch", read, params, files, "files")


def embed(source: AudioSource, name: str | None, options: EmbedArguments) -> Call[ClipFrames]:
    """Compute the frames of a clip."""
    values = options.get("values", "uint8")
    hop_seconds = options.get("hop_seconds")

    def read(found: Mapping[str, Any]) -> ClipFrames:
        return ClipFrames(
            str(found["clip"]),
            frame_array(found["frames"], quantised=values == "uint8"),
            np.asarray(found["start_seconds"], np.float64),
            dict(found["metadata"]),
        )

    params = {
        "values": values,
        "hop_seconds": None if hop_seconds is None else str(hop_seconds),
        "tail": options.get("tail", "pad"),
        "model": options.get("model"),
    }
    return Call("POST", "/embed", read, _given(params), [open_audio_file(source, name)])


def models() -> Call[tuple[ServiceModel, ...]]:
    """List the models of the service."""
    return Call("GET", "/models", lambda found: ServiceModels.from_json(found).models, [])


def labels(model: str | None) -> Call[Labels]:
    """List the labels of a model, in the order of their indices."""

    def read(found: Mapping[str, Any]) -> Labels:
        rows = sorted(ModelLabels.from_json(found).labels, key=lambda row: row.index)
        return Labels(tuple(row.label for row in rows), tuple(row.mid for row in rows))

    return Call("GET", "/labels", read, _given({"model": model}))


def version() -> Call[ServiceVersion]:
    """Get the versions of the service and of its API."""
    return Call("GET", "/version", ServiceVersion.from_json, [])


def ready() -> Call[bool]:
    """Check whether the service would accept a clip now."""
    return Call("GET", "/readyz", lambda found: bool(found["status"] == "ready"), [], is_probe=True)


def _classify_params(
    frames: bool = False,
    segments: bool = False,
    tracks: bool = False,
    model: str | None = None,
    **options: Unpack[ChoiceOptions],
) -> _Params:
    choice = Choice(**options)
    top_k = MAX_TOP_K if choice.top_k is None else choice.top_k
    params = [("top_k", str(top_k)), ("threshold", str(choice.threshold))]
    params += [("labels", label) for label in choice.labels or ()]
    params += [("exclude_labels", label) for label in choice.exclude_labels or ()]
    flags = {"frames": frames, "segments": segments, "tracks": tracks}
    params += [(name, "true") for name, is_set in flags.items() if is_set]
    return params + _given({"model": model})


def _given(values: Mapping[str, str | None]) -> _Params:
    return [(name, value) for name, value in values.items() if value is not None]
