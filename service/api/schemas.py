"""What requests and answers look like: for checks of what comes in, and for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from classifier.tags.choice import Choice
from vggish.common.choices import Values
from vggish.params import PATCH_SECONDS

Score = Annotated[float, Field(ge=0, le=1)]

Seconds = Annotated[float, Field(ge=0)]

# What is nearly called so is looked for where there is no such class, which takes its time.
ClassName = Annotated[str, Field(max_length=200)]


class TagOptions(BaseModel):
    """Which tags are told."""

    model_config = ConfigDict(extra="forbid")

    top_k: int = Field(10, ge=1, le=10_000, description="At most so many tags, the best first.")
    threshold: float = Field(0.0, ge=0, le=1, description="Only tags with at least this score.")
    labels: list[ClassName] = Field(
        [], max_length=1000, description="Only these classes, by name or AudioSet id. Repeatable."
    )
    exclude_labels: list[ClassName] = Field(
        [], max_length=1000, description="All classes but these. Repeatable."
    )
    model: str | None = Field(None, description="One of GET /models; the default one by default.")

    def choice(self) -> Choice:
        """The options that choose tags."""
        return Choice(self.top_k, self.threshold, self.labels or None, self.exclude_labels or None)


class ClassifyOptions(TagOptions):
    """What is asked about a sound."""

    frames: bool = Field(False, description="The tags of each frame of 0.96 s, too.")
    segments: bool = Field(False, description="When each of the tags is heard, too.")
    tracks: bool = Field(False, description="The scores of the clip's tags over time, too.")


class EmbedRequestOptions(BaseModel):
    """How a sound is embedded."""

    model_config = ConfigDict(extra="forbid")

    values: Values = Field(
        "uint8", description="uint8 as AudioSet's, pca (before quantising), raw (VGGish only)."
    )
    hop_seconds: float = Field(
        PATCH_SECONDS,
        ge=0.01,
        le=60,
        description="From one frame to the next, a multiple of 10 ms.",
    )
    tail: Literal["pad", "drop"] = Field(
        "pad", description="Whether silence completes the last frame."
    )
    model: str | None = Field(
        None, description="The embedder is that of this model; of the default one by default."
    )


class StreamStart(TagOptions):
    """The first message of a stream."""

    sample_rate_hz: int = Field(ge=4000, le=384_000, description="Of the samples that follow.")
    encoding: Literal["s16le", "f32le"] = Field(
        "s16le", description="16-bit integers or 32-bit floats, the low byte first."
    )
    channels: int = Field(1, ge=1, le=32, description="Interleaved.")
    api_key: str | None = Field(None, description="For browsers, which cannot send it as a header.")


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


_TAG = {"label": "Dog", "mid": "/m/0bt9lr", "index": 74, "score": 0.83}

_MODEL = {"name": "audioset", "head": "gru", "sha256": "9f2c..."}

_EMBEDDER = {
    "name": "mini",
    "weights_sha256": "c01d...",
    "model_sha256": "c01d...",
    "precision": "float32",
    "provider": "CPUExecutionProvider",
}

_TIMINGS = {
    "upload": 0.003,
    "queue": 0.0,
    "decode": 0.001,
    "front_end": 0.006,
    "embed": 0.004,
    "head": 0.002,
    "total": 0.017,
}


class Tag(BaseModel):
    """A class and how sure the model is of it."""

    model_config = _example(**_TAG)

    label: str = Field(description="Name of the class.")
    mid: str = Field(description="Its AudioSet id; empty where there is none.")
    index: int = Field(description="Its place among the model's classes.")
    score: Score


class FrameTags(BaseModel):
    """What is heard in one frame of 0.96 s."""

    model_config = _example(start_seconds=0.96, tags=[_TAG])

    start_seconds: Seconds
    tags: list[Tag]


class Segment(BaseModel):
    """A span of time in which a class is heard: frames with half of its highest score."""

    model_config = _example(start_seconds=0.0, end_seconds=2.88, **_TAG)

    start_seconds: Seconds
    end_seconds: Seconds
    label: str
    mid: str
    index: int
    score: Score = Field(description="The highest of its frames.")


class Track(BaseModel):
    """The scores of one class over time."""

    model_config = _example(**_TAG, scores=[0.83, 0.1])

    label: str
    mid: str
    index: int
    score: Score = Field(description="Of the whole clip.")
    scores: list[Score] = Field(description="One a frame.")


class Tracks(BaseModel):
    """The clip's tags over time."""

    model_config = _example(start_seconds=[0.0, 0.96], tags=[{**_TAG, "scores": [0.83, 0.1]}])

    start_seconds: list[float] = Field(description="Where each frame begins.")
    tags: list[Track]


class ModelIdentity(BaseModel):
    """Which model answered."""

    model_config = _example(**_MODEL)

    name: str
    head: str
    sha256: str = Field(description="Of its head's file.")


class Classified(BaseModel):
    """What is heard in a sound."""

    model_config = _example(
        file="dog.wav",
        tags=[_TAG],
        frames=None,
        segments=None,
        tracks=None,
        duration_seconds=10.0,
        model=_MODEL,
        embedder=_EMBEDDER,
        warnings=[],
        timings=_TIMINGS,
        request_id="5c0f2d9e",
    )

    file: str | None = Field(description="As the client calls it.")
    tags: list[Tag] = Field(description="Of the whole clip, the best first.")
    frames: list[FrameTags] | None = Field(
        description="With frames=true, where the model scores frames."
    )
    segments: list[Segment] | None = Field(
        description="With segments=true, where the model scores frames."
    )
    tracks: Tracks | None = Field(description="With tracks=true, where the model scores frames.")
    duration_seconds: Seconds
    model: ModelIdentity
    embedder: dict[str, str] = Field(description="What made the frames, with its checksums.")
    warnings: list[str] = Field(description="What is odd about the sound.")
    timings: dict[str, float] = Field(
        description="Seconds spent in each stage; stages overlap in long sounds."
    )
    request_id: str


class Problem(BaseModel):
    """What is wrong and what to do (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/unreadable-audio",
                    "title": "The sound cannot be read",
                    "status": 400,
                    "detail": "cannot read notes.txt: Format not recognised",
                    "instance": "5c0f2d9e",
                }
            ]
        },
    )

    type: str = Field(description="Stable; an address of the service that explains it.")
    title: str
    status: int
    detail: str = Field(description="What is wrong here, and what to do.")
    instance: str = Field(description="The id of the request.")


class Failed(BaseModel):
    """A file of a batch that could not be tagged."""

    file: str | None
    problem: Problem


class ClassifiedBatch(BaseModel):
    """One result a file, in their order."""

    results: list[Classified | Failed]
    request_id: str


class Embedded(BaseModel):
    """The frames of a sound."""

    model_config = _example(
        clip="dog", start_seconds=[0.0], frames=[[127, 128]], metadata={"values": "uint8"}
    )

    clip: str
    start_seconds: list[float]
    frames: list[list[float]] = Field(description="[n, 128], whole numbers if quantised.")
    metadata: dict[str, Any] = Field(description="How they were made.")


class ServedModel(BaseModel):
    """A model that the service has."""

    model_config = _example(
        **_MODEL,
        default=True,
        n_classes=527,
        clip_frames=10,
        has_frame_scores=True,
        embedders=["vggish", "mini"],
        embedder=_EMBEDDER,
    )

    name: str
    head: str
    sha256: str
    default: bool = Field(description="Whether it answers when no model is named.")
    n_classes: int
    clip_frames: int = Field(description="Frames that it judges at once; longer is windowed.")
    has_frame_scores: bool = Field(description="Whether there are frames, segments and tracks.")
    embedders: list[str] = Field(description="Whose frames it is made for.")
    embedder: dict[str, str] = Field(description="What makes its frames here.")


class ServedModels(BaseModel):
    """All models."""

    models: list[ServedModel]


class Label(BaseModel):
    """A class of a model."""

    model_config = _example(index=74, label="Dog", mid="/m/0bt9lr")

    index: int
    label: str
    mid: str


class ModelLabels(BaseModel):
    """The classes of a model, in the order of its scores."""

    model: str
    labels: list[Label]


class Status(BaseModel):
    """How the service is."""

    model_config = _example(status="ready")

    status: Literal["alive", "ready"]


class Version(BaseModel):
    """Of the software and of its interface."""

    model_config = _example(version="0.5.0", api="1")

    version: str
    api: str
