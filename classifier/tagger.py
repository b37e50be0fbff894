"""The tagger: sound, or frames, -> tags. An embedder and a bundle, loaded once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.bundle import Bundle, Scores
from classifier.labels import Labels
from vggish.audio import Source, source_name
from vggish.errors import EmptyAudioError, OptionError
from vggish.extractor import Extractor, Progress
from vggish.frames import Frames
from vggish.params import EMBEDDING_SIZE, PATCH_SECONDS

DEFAULT_TOP_K = 10


@dataclass(frozen=True)
class Tag:
    """A class and how sure the head is of it.

    Attributes:
        label: name of the class.
        mid: its AudioSet id, "" where there is none.
        index: its place among the scores.
        score: in [0, 1].
    """

    label: str
    mid: str
    index: int
    score: float

    def as_json(self) -> dict[str, Any]:
        """In the words of all outputs."""
        return {"label": self.label, "mid": self.mid, "index": self.index, "score": self.score}


@dataclass(frozen=True)
class FrameTags:
    """What is heard in one frame.

    Attributes:
        start_seconds: where its 0.96 s of sound begin.
        tags: the best first.
    """

    start_seconds: float
    tags: tuple[Tag, ...]

    def as_json(self) -> dict[str, Any]:
        """In the words of all outputs."""
        tags = [tag.as_json() for tag in self.tags]
        return {"start_seconds": self.start_seconds, "tags": tags}


@dataclass(frozen=True, eq=False)
class Tags:
    """What is heard in one clip.

    Attributes:
        tags: of the whole clip, the best first.
        frames: of each frame; None if the head scores whole clips only.
        scores: of all classes, float32 [C].
        frame_scores: of all classes in each frame, float32 [n, C], or None.
        start_seconds: where each frame begins, float64 [n].
        duration_seconds: of the sound.
        model: name, head and sha256 of the bundle.
        embedder: what made the frames; only a name if more is not known.
        warnings: sentences about what is odd about the sound.
    """

    tags: tuple[Tag, ...]
    frames: tuple[FrameTags, ...] | None
    scores: Scores
    frame_scores: Scores | None
    start_seconds: npt.NDArray[np.float64]
    duration_seconds: float
    model: Mapping[str, str]
    embedder: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Everything but the arrays of all classes, ready for JSON."""
        frames = None if self.frames is None else [frame.as_json() for frame in self.frames]
        return {
            "tags": [tag.as_json() for tag in self.tags],
            "frames": frames,
            "duration_seconds": self.duration_seconds,
            "model": dict(self.model),
            "embedder": dict(self.embedder),
            "warnings": list(self.warnings),
        }


class Tagger:
    """Sound in, tags out. Loaded once; safe to call from several threads.

    Args:
        bundle: the head and its labels.
        extractor: makes the frames; by default the installed VGGish, loaded at the first sound.
        force: take frames of an embedder that the bundle is not made for.

    Raises:
        BundleError: the bundle is not made for the extractor's embedder.
        OptionError: the extractor's frames are not quantised.
    """

    def __init__(
        self, bundle: Bundle, extractor: Extractor | None = None, *, force: bool = False
    ) -> None:
        self.bundle = bundle
        self._force = force
        self._loading = threading.Lock()
        self._extractor = None if extractor is None else self._checked(extractor)

    @property
    def extractor(self) -> Extractor:
        """What makes the frames; loaded when it is first asked for.

        Raises:
            WeightsNotInstalledError: VGGish is not installed; the message says how to get it.
        """
        with self._loading:
            if self._extractor is None:
                from vggish.api import load_extractor

                self._extractor = self._checked(load_extractor())
            return self._extractor

    def tag(
        self,
        source: Source,
        *,
        top_k: int | None = DEFAULT_TOP_K,
        threshold: float = 0.0,
        on_progress: Progress | None = None,
    ) -> Tags:
        """Tag one sound.

        Args:
            source: path, "-" for standard input, bytes, or a binary file object.
            top_k: at most so many tags, of the clip and of each frame; None for all classes.
            threshold: only tags with at least this score.
            on_progress: see `Extractor`.

        Raises:
            AudioError: the sound cannot be read, or there is none.
            OptionError: top_k or threshold cannot be honoured.
            WeightsNotInstalledError: VGGish is not installed; the message says how to get it.
        """
        check_choice(top_k, threshold)
        extractor = self.extractor
        clip = extractor(source, on_progress=on_progress)
        if len(clip) == 0:
            seconds = clip.metadata["duration_seconds"]
            raise EmptyAudioError(
                f"{source_name(source)} is too short for a frame: {seconds:g} s, with "
                f"--tail {extractor.options.tail}; use --tail pad"
            )
        return self._tags(
            np.asarray(clip.frames, np.uint8),
            clip.start_seconds,
            clip.metadata["duration_seconds"],
            clip.metadata["embedder"],
            (top_k, threshold),
            tuple(clip.metadata["warnings"]),
        )

    def tag_frames(
        self,
        frames: Frames,
        *,
        top_k: int | None = DEFAULT_TOP_K,
        threshold: float = 0.0,
        start_seconds: npt.ArrayLike | None = None,
        embedder: str = "",
    ) -> Tags:
        """Tag one clip whose frames are there already.

        Args:
            frames: uint8 [n, 128], n at least 1.
            top_k: see `tag`.
            threshold: see `tag`.
            start_seconds: [n], where each frame begins; by default one follows the other.
            embedder: name of what made the frames; "" stands for AudioSet's own.

        Raises:
            OptionError: the frames have another shape or dtype, there are none, or top_k or
                threshold cannot be honoured.
            BundleError: the bundle is not made for this embedder.
        """
        check_choice(top_k, threshold)
        self.bundle.check_embedder(embedder, self._force)
        if frames.ndim != 2 or frames.shape[1] != EMBEDDING_SIZE or len(frames) == 0:
            raise OptionError(
                f"frames of a clip must have the shape [n, {EMBEDDING_SIZE}], n at least 1. "
                f"Received: {list(frames.shape)}"
            )
        if start_seconds is None:
            start_seconds = np.round(np.arange(len(frames)) * PATCH_SECONDS, 6)
        starts = np.asarray(start_seconds, np.float64)
        if starts.shape != frames.shape[:1]:
            raise OptionError(
                f"start_seconds must be {len(frames)} times, one a frame. "
                f"Received: {list(starts.shape)}"
            )
        duration_seconds = round(float(starts[-1]) + PATCH_SECONDS, 6)
        name = {"name": embedder} if embedder else {}
        return self._tags(frames, starts, duration_seconds, name, (top_k, threshold))

    def _tags(
        self,
        frames: Frames,
        start_seconds: npt.NDArray[np.float64],
        duration_seconds: float,
        embedder: Mapping[str, str],
        choice: tuple[int | None, float],
        warnings: tuple[str, ...] = (),
    ) -> Tags:
        scores, frame_scores = self.bundle.clip_and_frame_scores(frames[None], [len(frames)])
        by_frame = None
        if frame_scores is not None:
            each = top_tags(frame_scores[0], self.bundle.labels, *choice)
            by_frame = tuple(map(FrameTags, start_seconds.tolist(), each))
        return Tags(
            tags=top_tags(scores, self.bundle.labels, *choice)[0],
            frames=by_frame,
            scores=scores[0],
            frame_scores=None if frame_scores is None else frame_scores[0],
            start_seconds=start_seconds,
            duration_seconds=duration_seconds,
            model=self.bundle.provenance,
            embedder=embedder,
            warnings=warnings,
        )

    def _checked(self, extractor: Extractor) -> Extractor:
        if extractor.options.values != "uint8":
            raise OptionError(
                "a tagger needs an extractor of quantised frames, values='uint8'. "
                f"Received: {extractor.options.values!r}"
            )
        name = extractor.embedder.provenance["name"]
        self.bundle.check_embedder(name, self._force, what="these sounds")
        return extractor


def top_indices(scores: Scores, top_k: int | None) -> npt.NDArray[np.intp]:
    """Classes with the highest scores, [B, C] -> [B, min(top_k, C)]; ties by the lower index."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :top_k]


def top_tags(
    scores: Scores, labels: Labels, top_k: int | None = None, threshold: float = 0.0
) -> list[tuple[Tag, ...]]:
    """The best tags of each clip or frame, scores float32 [B, C] -> B tuples, best first."""
    best = top_indices(scores, top_k)
    return [
        tuple(
            # The shortest number that gives the float32 back.
            Tag(labels.names[index], labels.mids[index], index, float(str(row[index])))
            for index in indices.tolist()
            if row[index] >= threshold
        )
        for row, indices in zip(scores, best, strict=True)
    ]


def check_choice(top_k: int | None, threshold: float = 0.0) -> None:
    """Refuse a choice of tags that makes no sense.

    Raises:
        OptionError: top_k is less than 1, or threshold is not in [0, 1].
    """
    if top_k is not None and top_k < 1:
        raise OptionError(f"top_k must be at least 1. Received: {top_k}")
    if not 0 <= threshold <= 1:
        raise OptionError(f"threshold must be from 0 to 1. Received: {threshold}")
