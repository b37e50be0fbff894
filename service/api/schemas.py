"""Schemas of requests and responses: they validate options and describe the API in OpenAPI.

Responses that the client reads, too, are the dataclasses of `service.documents`.
"""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from classifier.tags.choice import DEFAULT_TOP_K, Choice
from classifier.tags.document import JsonDocument
from classifier.tags.tracks import TagTrack, TagTracks
from classifier.tags.types import FrameTags, Tag, TagSegment
from service import documents
from service.documents import ServiceModel, ServiceModels, ServiceTags
from vggish.common.choices import Tail, Values
from vggish.params import MAX_SOURCE_RATE_HZ, MIN_SOURCE_RATE_HZ, PATCH_SECONDS

# Limited, since an unknown label triggers a fuzzy search, whose time grows with the name.
_Labels = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=1000)]


def _example(**members: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [members]})


class AudioOptions(BaseModel):
    """Options that select the audio of a clip."""

    stream: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Number of the audio stream of a file with several; by default the one that "
        "the file marks as default, or else the first with sound.",
    )


class TagOptions(BaseModel):
    """Options that select tags."""

    model_config = ConfigDict(extra="forbid")

    top_k: int = Field(
        DEFAULT_TOP_K,
        ge=1,
        le=documents.MAX_TOP_K,
        description="Maximum number of tags, best first.",
    )
    threshold: float = Field(0.0, ge=0, le=1, description="Minimum score of a tag.")
    labels: _Labels = Field(
        [], description="Return only these classes, by name or AudioSet id. Repeatable."
    )
    exclude_labels: _Labels = Field([], description="Leave these classes out. Repeatable.")
    model: str | None = Field(
        None, description="Name of a model from GET /models; the default model if omitted."
    )

    def choice(self) -> Choice:
        """Convert to the tagger's options."""
        return Choice(self.top_k, self.threshold, self.labels or None, self.exclude_labels or None)


class ClassifyOptions(TagOptions, AudioOptions):
    """Options of a classification."""

    frames: bool = Field(False, description="Return the tags of each frame of 0.96 s.")
    segments: bool = Field(False, description="Return when each tag is detected.")
    tracks: bool = Field(False, description="Return the scores of the clip's tags over time.")


class EmbedRequestOptions(AudioOptions):
    """Options of an embedding."""

    model_config = ConfigDict(extra="forbid")

    values: Values = Field(
        "uint8",
        description="uint8 (quantised as in AudioSet), pca (before quantising) or raw (before PCA, "
        "VGGish only).",
    )
    hop_seconds: float = Field(
        PATCH_SECONDS,
        ge=0.01,
        le=60,
        description="Time from one frame to the next in seconds, a multiple of 0.01.",
    )
    tail: Tail = Field(
        "pad", description="Pad the last frame with silence (pad) or leave it out (drop)."
    )
    model: str | None = Field(
        None, description="Name of the model whose embedder is used; the default model if omitted."
    )


class StreamStart(TagOptions):
    """The first message of a stream."""

    sample_rate_hz: int = Field(
        ge=MIN_SOURCE_RATE_HZ, le=MAX_SOURCE_RATE_HZ, description="Sample rate in Hz."
    )
    encoding: Literal["s16le", "f32le"] = Field(
        "s16le", description="Little-endian 16-bit integers or 32-bit floats."
    )
    channels: int = Field(1, ge=1, le=32, description="Number of interleaved channels.")
    api_key: str | None = Field(
        None, description="API key, for browsers, which cannot send it as a header."
    )


class Problem(BaseModel):
    """A problem document (RFC 9457): what is wrong and what to do."""

    model_config = _example(
        type="/problems/unreadable-audio",
        title="The audio cannot be read",
        status=400,
        detail="cannot read notes.txt: Format not recognised",
        instance="5c0f2d9e",
    ) | {"extra": "allow"}

    type: str = Field(description="Stable address on this service that explains the problem.")
    title: str
    status: int
    detail: str = Field(description="What is wrong with this request, and what to do.")
    instance: str = Field(description="The request id.")


class Failed(BaseModel):
    """A file of a batch that could not be tagged."""

    file: str | None
    problem: Problem


class ClassifiedBatch(BaseModel):
    """One result for each file, in the order of the files."""

    results: list[ServiceTags | Failed]
    request_id: str


class Embedded(BaseModel):
    """Frames of a clip."""

    model_config = _example(
        clip="dog", start_seconds=[0.0], frames=[[127, 128]], metadata={"values": "uint8"}
    )

    clip: str
    start_seconds: list[float]
    frames: list[list[float]] = Field(description="[n, 128]; integers if quantised.")
    metadata: dict[str, Any] = Field(description="How the frames were made.")


class Status(BaseModel):
    """State of the service."""

    model_config = _example(status="ready")

    status: Literal["alive", "ready"]


_TAG = Tag("Dog", "/m/0bt9lr", 74, 0.83)
_TRACK = TagTrack("Dog", "/m/0bt9lr", 74, 0.83, (0.83, 0.1))
_MODEL = {"name": "audioset", "head": "gru", "sha256": "9f2c..."}
_EMBEDDER = {
    "name": "mini",
    "weights_sha256": "c01d...",
    "model_sha256": "c01d...",
    "precision": "float32",
    "provider": "CPUExecutionProvider",
}
_SERVICE_MODEL = ServiceModel(
    **_MODEL,
    default=True,
    n_classes=527,
    clip_frames=10,
    has_frame_scores=True,
    embedders=("vggish", "mini"),
    embedder=_EMBEDDER,
)
_EXAMPLES: tuple[JsonDocument, ...] = (
    _TAG,
    FrameTags(0.96, (_TAG,)),
    TagSegment(0.0, 2.88, "Dog", "/m/0bt9lr", 74, 0.83),
    _TRACK,
    TagTracks((0.0, 0.96), (_TRACK,)),
    ServiceTags(
        tags=(_TAG,),
        frames=None,
        segments=None,
        duration_seconds=10.0,
        model=_MODEL,
        embedder=_EMBEDDER,
        timings={"upload": 0.003, "decode": 0.001, "embed": 0.004, "total": 0.017},
        file="dog.wav",
        request_id="5c0f2d9e",
    ),
    _SERVICE_MODEL,
    ServiceModels((_SERVICE_MODEL,)),
    documents.ModelLabel(74, "Dog", "/m/0bt9lr"),
    documents.ServiceVersion("0.5.0", "1"),
)

_SCORE = {"minimum": 0, "maximum": 1}
_SECONDS = {"minimum": 0}
# What the types of the properties do not state.
_DETAILS: dict[type[JsonDocument], dict[str, dict[str, Any]]] = {
    Tag: {"score": _SCORE},
    FrameTags: {"start_seconds": _SECONDS},
    TagSegment: {"score": _SCORE, "start_seconds": _SECONDS, "end_seconds": _SECONDS},
    TagTrack: {"score": _SCORE, "scores": {"items": {"type": "number", **_SCORE}}},
    ServiceTags: {
        "duration_seconds": _SECONDS,
        "model": {
            "properties": {key: {"type": "string"} for key in _MODEL},
            "required": list(_MODEL),
        },
    },
}


def describe_documents(schemas: dict[str, Any]) -> None:
    """Complete the OpenAPI schemas of our dataclasses, by name, from their docstrings."""
    for example in _EXAMPLES:
        document = type(example)
        schema = schemas[document.__name__]
        schema["description"] = (inspect.getdoc(document) or "").split("\n\n")[0]
        schema["examples"] = [example.as_json()]
        schema["required"] = list(schema["properties"])  # `as_json` writes all fields
        for name, text in _attributes(document).items():
            schema["properties"][name]["description"] = text
            schema["properties"][name].pop("default", None)
        for name, details in _DETAILS.get(document, {}).items():
            schema["properties"][name].update(details)


def _attributes(document: type[JsonDocument]) -> dict[str, str]:
    """The texts of the section "Attributes:" of a class and its bases."""
    found: dict[str, str] = {}
    for cls in reversed(document.__mro__):
        section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2].split("\n\n")[0]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", section, re.MULTILINE):
            found[name] = " ".join(text.split())
    return found
