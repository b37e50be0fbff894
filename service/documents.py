"""JSON documents that the service answers with and its client reads; see `JsonDocument`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from classifier.tags.document import JsonDocument
from classifier.tags.tracks import TagTracks
from classifier.tags.types import ClipTags

MAX_TOP_K = 10_000  # of a request


@dataclass(frozen=True)
class ServiceTags(ClipTags):
    """Tags of one clip, as the service returns them.

    Attributes:
        tracks: scores of `tags` over time; None as for `frames`.
        file: the client's name for the clip.
        request_id: identifies the request in the service's log.
    """

    tracks: TagTracks | None = None
    file: str | None = None
    request_id: str = ""


@dataclass(frozen=True)
class ServiceModel(JsonDocument):
    """A model that the service has loaded.

    Attributes:
        name: value of the option `model` that selects it.
        head: kind of the head.
        sha256: checksum of the head's file.
        default: whether it answers requests that name no model.
        n_classes: number of classes.
        clip_frames: number of frames it scores at once; longer audio is scored in windows.
        has_frame_scores: whether it can return frames, segments and tracks.
        embedders: embedders it was trained for.
        embedder: name and checksums of the embedder it uses here.
    """

    name: str
    head: str
    sha256: str
    default: bool
    n_classes: int
    clip_frames: int
    has_frame_scores: bool
    embedders: tuple[str, ...]
    embedder: Mapping[str, str]

    @property
    def is_default(self) -> bool:
        """Whether it answers requests that name no model."""
        return self.default


@dataclass(frozen=True)
class ServiceModels(JsonDocument):
    """All models, the default one first."""

    models: tuple[ServiceModel, ...]


@dataclass(frozen=True)
class ModelLabel(JsonDocument):
    """A class of a model.

    Attributes:
        index: position among the model's scores.
        label: name of the class.
        mid: AudioSet id of the class; empty if it has none.
    """

    index: int
    label: str
    mid: str


@dataclass(frozen=True)
class ModelLabels(JsonDocument):
    """The classes of a model, in the order of its scores."""

    model: str
    labels: tuple[ModelLabel, ...]


@dataclass(frozen=True)
class ServiceVersion(JsonDocument):
    """Version of the service.

    Attributes:
        version: version of audiotag.
        api: version of the HTTP interface.
    """

    version: str
    api: str
