"""A request of the client, and the arguments of its methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

from classifier.tags.choice import Choice, ChoiceOptions
from service.client.audio_file import AudioFile
from service.documents import MAX_TOP_K
from vggish.common.choices import Tail, Values

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Result = TypeVar("_Result")
Params = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Call(Generic[_Result]):
    """A request, and `read`, which converts the JSON object of its response to the result.

    For a probe, 503 means the status "not ready", and nothing is retried.
    """

    method: str
    path: str
    read: Callable[[Mapping[str, Any]], _Result]
    params: Params = ()
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
        stream: number of the audio stream of a file with several; None for the service's choice.
    """

    frames: bool
    segments: bool
    tracks: bool
    model: str | None
    stream: int | None


class EmbedArguments(TypedDict, total=False):
    """Keyword arguments of `Client.embed`.

    Attributes:
        values: values of the frames ("uint8" by default), see `vggish.EmbedOptions`.
        hop_seconds: time from one frame to the next; None for 0.96.
        tail: pad the last frame with silence ("pad", the default), or leave it out ("drop").
        model: name of the model whose embedder is used; None for the service's default.
        stream: number of the audio stream of a file with several; None for the service's choice.
    """

    values: Values
    hop_seconds: float | None
    tail: Tail
    model: str | None
    stream: int | None


def classify_params(
    frames: bool = False,
    segments: bool = False,
    tracks: bool = False,
    model: str | None = None,
    stream: int | None = None,
    **options: Unpack[ChoiceOptions],
) -> Params:
    """Convert the arguments of `Client.classify` to query parameters."""
    choice = Choice(**options)
    top_k = MAX_TOP_K if choice.top_k is None else choice.top_k
    params = [("top_k", str(top_k)), ("threshold", str(choice.threshold))]
    params += [("labels", label) for label in choice.labels or ()]
    params += [("exclude_labels", label) for label in choice.exclude_labels or ()]
    flags = {"frames": frames, "segments": segments, "tracks": tracks}
    params += [(name, "true") for name, is_set in flags.items() if is_set]
    return [*params, *given({"model": model, "stream": None if stream is None else str(stream)})]


def given(values: Mapping[str, str | None]) -> Params:
    """Make query parameters of the values that are not None."""
    return [(name, value) for name, value in values.items() if value is not None]
