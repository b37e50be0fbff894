"""The calls that a notebook needs: classify, train and evaluate."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from classifier import evaluate as evaluation
from classifier.bundles.bundle import Bundle, load
from classifier.frame_data.finding import find_frame_files
from classifier.frame_data.records import read_clips
from classifier.labels import Labels, read_labels
from classifier.reports.evaluation import Evaluation
from classifier.tagger import DEFAULT_MODEL, Tagger
from classifier.tags.choice import DEFAULT_TOP_K
from classifier.tags.types import Tags
from classifier.training.config import TrainingConfig
from classifier.training.runs import Fitted
from classifier.training_setup import TrainingSetup
from vggish.audio.sources import AudioSource
from vggish.common.choices import Device, EmbedderName, Precision

if TYPE_CHECKING:
    from classifier.training.observers import Observer

PathName = str | os.PathLike[str]
Paths = PathName | Sequence[PathName]
_loading = threading.Lock()


def classify(
    source: AudioSource | npt.NDArray[Any],
    *,
    model: PathName = DEFAULT_MODEL,
    embedder: EmbedderName = "auto",
    precision: Precision | None = None,
    device: Device = "auto",
    force: bool = False,
    sample_rate: float | None = None,
    stream: int | None = None,
    top_k: int | None = DEFAULT_TOP_K,
    threshold: float = 0.0,
    labels: Sequence[str] | None = None,
    exclude_labels: Sequence[str] | None = None,
) -> Tags:
    """Tag one clip.

    The model stays loaded for the next call. May be called from several threads.

    Args:
        source: a path, the bytes of an audio file, a binary file object, or a waveform [n] or
            [n, channels]: float in [-1, 1], int16 or int32.
        model: a bundle, a training run, or the name of a built-in model.
        embedder: "vggish", "mini", or "auto" for the one that the model was trained on.
        precision: precision of VGGish, "float32" (the default) or "int8".
        device: "auto", "cpu" or "gpu".
        force: use an embedder that the model was not trained on.
        sample_rate: of a waveform, in Hz; audio files have their own.
        stream: number of the audio stream of a file with several, from 1; by default the one that
            the file marks as default, else the first with sound.
        top_k: maximum number of tags; None for all classes.
        threshold: minimum score of a tag, from 0 to 1.
        labels: classes to report, by name or AudioSet id; None for all.
        exclude_labels: classes to leave out.

    Returns:
        The tags of the clip, of each 0.96 s, and the spans in which each tag occurs.

    Raises:
        AudioError: the audio cannot be read, or is empty.
        BundleError: there is no such model, or it was trained on another embedder.
        OptionError: a value is out of range, or a label is unknown.
        WeightsNotInstalledError: the embedder is not installed.
    """
    with _loading:
        tagger = _load_tagger(os.fspath(model), embedder, precision, device, force)
    return tagger.tag(
        source,
        sample_rate=sample_rate,
        stream=stream,
        top_k=top_k,
        threshold=threshold,
        labels=labels,
        exclude_labels=exclude_labels,
    )


@functools.lru_cache(maxsize=1)
def _load_tagger(
    model: str, embedder: EmbedderName, precision: Precision | None, device: Device, force: bool
) -> Tagger:
    return Tagger.load(model, embedder=embedder, precision=precision, device=device, force=force)


def train(
    *,
    frames: Paths = (),
    audio: PathName | None = None,
    labels: Labels | PathName | None = None,
    config: TrainingConfig | None = None,
    validation: Paths = (),
    validation_share: float | None = None,
    folds: int | None = None,
    out: PathName | None = None,
    resume: bool = False,
    init_from: Bundle | PathName | None = None,
    licence: str = "",
    embedder: EmbedderName | None = None,
    max_bad: int = 0,
    jobs: int = 1,
    observer: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    log: Callable[[str], None] = lambda line: None,
) -> Fitted:
    """Train a head on labelled frames or audio, and export it; failures are `AudiotagError`s.

    Args:
        frames: files of labelled frames, directories or patterns.
        audio: in place of `frames`, a folder with a folder per class, or a CSV of clips.
        labels: the classes, or a CSV of them (default: from `init_from`, the folders, or AudioSet).
        config: head, optimiser and how to train (default: a GRU, or the head of `init_from`).
        validation: frames to choose the best epoch by (default: a share of the clips).
        validation_share: share of clips to hold out (default: 0.1); 0 trains on all, all epochs.
        folds: number of folds of a cross-validation; their heads become one ensemble.
        out: directory of the run (default: `runs/HEAD-N`).
        resume: continue the run in `out`.
        init_from: a bundle whose weights to start from; its classes may differ.
        licence: licence of the data, for the model card.
        embedder: network that embeds `audio` (default: VGGish if it is installed, else mini).
        max_bad: number of damaged records or files to leave out before giving up.
        jobs: number of audio files to embed at once.
        observer: receives the progress of training.
        should_stop: asked after each step; True stops a training that can be resumed.
        log: called with notes and warnings.
    """
    setup = TrainingSetup(
        config=TrainingConfig() if config is None else config,
        head_is_given=config is not None,
        frames=_as_list(frames),
        audio=None if audio is None else Path(audio),
        labels=labels if isinstance(labels, Labels | None) else read_labels(Path(labels)),
        validation=_as_list(validation),
        validation_share=validation_share,
        folds=folds,
        out=None if out is None else Path(out),
        resume=resume,
        initial=init_from if isinstance(init_from, Bundle | None) else load(str(init_from)),
        licence=licence,
        embedder=embedder,
        max_bad=max_bad,
        jobs=jobs,
    )
    return setup.load(log).fit(observer, should_stop, log)


def evaluate(
    model: Bundle | PathName,
    frames: Paths,
    *,
    force: bool = False,
    max_bad: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate a bundle on labelled frames.

    Args:
        model: a bundle, a training run, or the name of a built-in model.
        frames: files of labelled frames, directories or patterns.
        force: accept frames of an embedder that the model was not trained on.
        max_bad: number of damaged records or files to leave out before giving up.
        on_progress: called with the number of clips scored so far.

    Returns:
        Metrics such as mAP by name, average precision per class, and the scores of all clips.

    Raises:
        BundleError: there is no such model, or the frames are of another embedder.
        FrameFileError: frames cannot be read, or have labels that are none of the classes.
        OptionError: no clip has labels.
    """
    bundle = model if isinstance(model, Bundle) else load(os.fspath(model))
    clips = read_clips(find_frame_files(_as_list(frames)), max_bad=max_bad)
    return evaluation.evaluate(bundle, clips, bundle.labels, force=force, on_progress=on_progress)


def _as_list(paths: Paths) -> list[str]:
    if isinstance(paths, (str, os.PathLike)):
        return [os.fspath(paths)]
    return [os.fspath(path) for path in paths]
