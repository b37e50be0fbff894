"""Tag audio, or frames that have been embedded already, with an embedder and a bundle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classifier.bundles.bundle import BATCH_FRAMES, Bundle, load
from classifier.bundles.files import quoted
from classifier.tags.choice import DEFAULT_TOP_K, Choice, ChoiceOptions
from classifier.tags.segments import find_segments
from classifier.tags.types import FrameTags, Scores, Tags, TagSegment
from classifier.tags.windows import WindowedScores, window_starts
from vggish.audio.mono import SILENCE
from vggish.audio.sources import AudioSource, source_name
from vggish.audio.stream import AudioStream, open_waveform
from vggish.common.choices import EMBEDDERS, Device, EmbedderName, Precision
from vggish.errors import BundleError, EmptyAudioError, OptionError, WeightsNotInstalledError
from vggish.extractor import Extractor, OnAudioProgress
from vggish.frames.clip import Frames
from vggish.params import EMBEDDING_SIZE, PATCH_SECONDS

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT_MODEL = "audioset"


class Tagger:
    """Tags audio; thread-safe. See `load`.

    It can be pickled: other processes load the bundle and the embedder from the same files.

    Clips longer than those that the head was trained on are scored in windows of that length,
    which overlap by half: the score of a clip is the highest of its windows, that of a frame the
    mean of the windows that contain it.

    Args:
        bundle: the head and its labels.
        extractor: computes the frames; None loads the default embedder for the first clip.
        force: accept frames of an embedder that the bundle is not for.

    Raises:
        BundleError: the bundle is not for the extractor's embedder.
        OptionError: the extractor's frames are not quantised.
    """

    def __init__(
        self, bundle: Bundle, extractor: Extractor | None = None, *, force: bool = False
    ) -> None:
        self.bundle = bundle
        self._force = force
        self._loading = threading.Lock()
        self._extractor = None if extractor is None else self._checked(extractor)

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        embedder: EmbedderName = "auto",
        precision: Precision | None = None,
        device: Device = "auto",
        force: bool = False,
    ) -> Tagger:
        """Load a bundle and an embedder.

        Args:
            model: directory of a bundle or of a training run that contains one, or the name of a
                bundle that comes with audiotag.
            embedder: "vggish", "mini", or "auto" for the one that the bundle is for; if it is for
                both, VGGish if it is installed and mini otherwise.
            precision: see `vggish.load_extractor`.
            device: "auto", "cpu" or "gpu".
            force: accept an embedder that the bundle is not for.

        Raises:
            BundleError: there is no such bundle, it is damaged, or it is not for the embedder.
            WeightsNotInstalledError: the embedder is not installed; the message says how to
                install it, or which bundle needs no installation.
            OptionError: an option has an unknown value.
        """
        bundle = load(model)
        extractor = _load_extractor(bundle, embedder, precision, device, force)
        return cls(bundle, extractor, force=force)

    def __reduce__(self) -> tuple[Callable[..., Tagger], tuple[Bundle, Extractor | None, bool]]:
        """Pickle as what it was loaded from; another process loads it again."""
        return _make, (self.bundle, self._extractor, self._force)

    @property
    def extractor(self) -> Extractor:
        """The extractor that computes the frames, loaded at its first use.

        Raises:
            WeightsNotInstalledError: the embedder is not installed.
        """
        with self._loading:
            if self._extractor is None:
                found = _load_extractor(self.bundle, "auto", None, "auto", self._force)
                self._extractor = self._checked(found)
            return self._extractor

    def tag(
        self,
        source: AudioSource | AudioStream | npt.NDArray[Any],
        *,
        sample_rate: float | None = None,
        stream: int | None = None,
        top_k: int | None = DEFAULT_TOP_K,
        threshold: float = 0.0,
        labels: Sequence[str] | None = None,
        exclude_labels: Sequence[str] | None = None,
        on_progress: OnAudioProgress | None = None,
    ) -> Tags:
        """Tag one clip of audio.

        Args:
            source: path, "-" for standard input, bytes, or a binary file object; a stream of
                `vggish.open_audio`, which is closed; or a waveform [n] or [n, channels],
                float in [-1, 1], int16 or int32.
            sample_rate: of a waveform, in Hz, from 1 Hz to 1 MHz; files have their own.
            stream: number of the audio stream of a file with several, see `vggish.open_audio`.
            top_k: maximum number of tags of the clip and of each frame; None for all classes.
            threshold: lowest score of a tag.
            labels: the only classes to return, by name or mid in any case; None for all.
            exclude_labels: classes not to return.
            on_progress: see `Extractor`.

        Raises:
            AudioError: the audio cannot be read, or is empty.
            OptionError: a tag option has an invalid value, or the waveform has another shape or
                dtype, or no sample rate.
            WeightsNotInstalledError: the embedder is not installed.
        """
        choice = Choice(top_k, threshold, labels, exclude_labels)
        choice.classes(self.bundle.labels)  # refuses unknown ones before any audio is read
        audio = _open(source, sample_rate)
        extractor = self.extractor
        clip = extractor(audio, on_progress=on_progress, stream=stream)
        if len(clip) == 0:
            seconds = clip.metadata["duration_seconds"]
            raise EmptyAudioError(
                f"{_name(audio)} is too short for a frame: {seconds:g} s, with "
                f"--tail {extractor.options.tail}; use --tail pad"
            )
        return self._tags(
            np.asarray(clip.frames, np.uint8),
            clip.start_seconds,
            clip.metadata["duration_seconds"],
            clip.metadata["embedder"],
            choice,
            tuple(clip.metadata["warnings"]),
            clip.timings,
        )

    def tag_frames(
        self,
        frames: Frames,
        *,
        start_seconds: npt.ArrayLike | None = None,
        embedder: str = "",
        **options: Unpack[ChoiceOptions],
    ) -> Tags:
        """Tag one clip that has been embedded already.

        Args:
            frames: uint8 [n, 128], n at least 1.
            start_seconds: [n], the start of each frame; by default they are contiguous.
            embedder: name of the embedder of the frames; "" means that of AudioSet.
            options: top_k, threshold, labels and exclude_labels, see `tag`.

        Raises:
            OptionError: the frames have another shape or dtype, there are none, or a tag option
                has an invalid value.
            BundleError: the bundle is not for this embedder.
        """
        choice = Choice(**options)
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
                f"start_seconds must be {len(frames)} times, one per frame. "
                f"Received: {list(starts.shape)}"
            )
        duration_seconds = round(float(starts[-1]) + PATCH_SECONDS, 6)
        name = {"name": embedder} if embedder else {}
        return self._tags(frames, starts, duration_seconds, name, choice)

    def _tags(
        self,
        frames: Frames,
        start_seconds: npt.NDArray[np.float64],
        duration_seconds: float,
        embedder: Mapping[str, str],
        choice: Choice,
        warnings: tuple[str, ...] = (),
        timings: Mapping[str, float] | None = None,
    ) -> Tags:
        started = time.perf_counter()
        scores, frame_scores = self._scores(frames, str(embedder.get("name", "")))
        head_seconds = time.perf_counter() - started
        labels = self.bundle.labels
        (tags,) = choice.tags(scores[None], labels)
        by_frame: tuple[FrameTags, ...] | None = None
        segments: tuple[TagSegment, ...] | None = None
        if frame_scores is not None:
            each = choice.tags(frame_scores, labels)
            by_frame = tuple(map(FrameTags, start_seconds.tolist(), each))
            segments = ()
            if SILENCE not in warnings:  # silence has no sound event at any time
                segments = find_segments(tags, frame_scores, start_seconds, duration_seconds)
        return Tags(
            tags=tags,
            frames=by_frame,
            segments=segments,
            duration_seconds=duration_seconds,
            model=self.bundle.provenance,
            embedder=embedder,
            warnings=warnings,
            timings={**(timings or {}), "head": head_seconds},
            scores=scores,
            frame_scores=frame_scores,
            start_seconds=start_seconds,
        )

    def _scores(self, frames: Frames, embedder: str) -> tuple[Scores, Scores | None]:
        """Score a clip, [C], and its frames, [n, C]; in windows if it is long."""
        bundle, n_frames = self.bundle, len(frames)
        window = min(bundle.clip_frames, n_frames)
        found = WindowedScores(
            n_frames, len(bundle.labels), window, of_frames=bundle.has_frame_scores
        )
        views = np.lib.stride_tricks.sliding_window_view(frames, window, axis=0)
        all_starts = window_starts(n_frames, window)
        size = max(1, BATCH_FRAMES // window)
        for starts in np.split(all_starts, range(size, len(all_starts), size)):
            # Time is the last axis of the view.
            windows = np.ascontiguousarray(views[starts].transpose(0, 2, 1))
            lengths = np.full(len(starts), window)
            found.add(starts, *bundle.clip_and_frame_scores(windows, lengths, embedder))
        return found.result()

    def _checked(self, extractor: Extractor) -> Extractor:
        if extractor.options.values != "uint8":
            raise OptionError(
                "a tagger needs an extractor of quantised frames, with values='uint8'. "
                f"Received: {extractor.options.values!r}"
            )
        name = extractor.embedder.provenance["name"]
        self.bundle.check_embedder(name, self._force, what="this audio")
        return extractor


def _make(bundle: Bundle, extractor: Extractor | None, force: bool) -> Tagger:
    return Tagger(bundle, extractor, force=force)


def choose_embedder(
    bundle: Bundle, embedder: EmbedderName = "auto", *, force: bool = False
) -> EmbedderName:
    """Choose the embedder for a bundle.

    "auto" chooses the one that the bundle is for; the result is "auto" if it is for all, or with
    `force`. Raises a `BundleError` if the bundle is not for the given embedder, or for none of this
    version.
    """
    if embedder not in EMBEDDERS:
        raise OptionError(f"embedder must be one of {EMBEDDERS}. Received: {embedder!r}")
    if embedder != "auto":
        bundle.check_embedder(embedder, force, what="this audio")
        return embedder
    known = [name for name in EMBEDDERS if name != "auto"]
    accepted = [name for name in known if bundle.accepts(name)]
    if force or accepted == known:
        return "auto"
    if accepted:
        return accepted[0]
    raise BundleError(
        f"the bundle {bundle.name!r} is for frames of {quoted(bundle.card['embedders'])}, but "
        f"the embedders of this version are {quoted(known)}.\nUse another bundle, or override this "
        "check with --force"
    )


def _load_extractor(
    bundle: Bundle, embedder: EmbedderName, precision: Precision | None, device: Device, force: bool
) -> Extractor:
    from vggish.api import load_extractor

    chosen = choose_embedder(bundle, embedder, force=force)
    try:
        return load_extractor(embedder=chosen, precision=precision, device=device)
    except WeightsNotInstalledError as error:
        if embedder != "auto" or chosen == "auto":
            raise
        raise WeightsNotInstalledError(
            f"the bundle {bundle.name!r} is for frames of {quoted(bundle.card['embedders'])} only, "
            f"and {error}\nOr use a bundle that also accepts mini, such as --model {DEFAULT_MODEL}"
        ) from error


def _open(
    source: AudioSource | AudioStream | npt.NDArray[Any], sample_rate: float | None
) -> AudioSource | AudioStream:
    if isinstance(source, np.ndarray):
        return open_waveform(source, sample_rate)
    if sample_rate is not None:
        raise OptionError(
            f"{_name(source)} has a sample rate of its own; sample_rate is for waveforms. "
            f"Received: {sample_rate!r}"
        )
    return source


def _name(audio: AudioSource | AudioStream) -> str:
    return audio.name if isinstance(audio, AudioStream) else source_name(audio)
