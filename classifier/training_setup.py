"""What to train, on which clips, and where to keep the run: checked, loaded and then fitted.

Importing this module does not import TensorFlow; loading the data does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.audio_data.clip_list import read_clip_list
from classifier.audio_data.embed import EmbedReport, embed_clips
from classifier.bundles.bundle import Bundle
from classifier.frame_data.clip_store import ClipStore, load_clips
from classifier.frame_data.clips import ReadReport
from classifier.frame_data.finding import find_frame_files
from classifier.labels import Labels, audioset_labels
from classifier.training.config import TrainingConfig
from classifier.training.runs import Fitted, Run, latest_run, new_run
from classifier.training.splits import DEFAULT_SHARE, check_given_folds, check_n_folds, check_share
from vggish.api import load_extractor
from vggish.common.choices import EmbedderName
from vggish.common.wording import count, prefix_location
from vggish.embedders.choice import find_embedder
from vggish.errors import OptionError

if TYPE_CHECKING:
    from classifier.fit import LabelledClips
    from classifier.training.observers import Observer

LogFn = Callable[[str], None]


def start_config(config: TrainingConfig, initial: Bundle, head_is_given: bool) -> TrainingConfig:
    """Set the head of a configuration to that of the bundle whose weights training starts from.

    Raises:
        OptionError: the bundle is an ensemble, or the head was chosen and is another one.
    """
    head = initial.card["head"]
    if head["name"] == "ensemble":
        raise OptionError(f"{initial.directory} is an ensemble; fine-tune one of its members")
    if head_is_given and (config.head, dict(config.settings)) != (head["name"], head["settings"]):
        raise OptionError(
            f"--head and --set ask for another head than {initial.directory} has "
            f"({head['name']}); leave them out to fine-tune it"
        )
    return replace(config, head=head["name"], settings=head["settings"])


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """What to train, on which clips, and where to keep the run; see `classifier.api.train`.

    Raises:
        OptionError: a value is out of range, or values cannot be combined.
        RunError: `out` cannot be used for a new run, or has none to resume.
    """

    config: TrainingConfig
    head_is_given: bool = True
    frames: Sequence[str] = ()
    audio: Path | None = None
    audio_root: Path | None = None
    labels: Labels | None = None
    validation: Sequence[str] = ()
    validation_share: float | None = None
    folds: int | None = None
    out: Path | None = None
    resume: bool = False
    initial: Bundle | None = None
    licence: str = ""
    embedder: EmbedderName | None = None
    max_bad: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.initial is not None:
            config = start_config(self.config, self.initial, self.head_is_given)
            object.__setattr__(self, "config", config)
        if bool(self.frames) == (self.audio is not None):
            raise OptionError(
                "train on files of frames (--frames) or on audio (--audio)"
                + ("; not on both" if self.frames else "; neither is given")
            )
        if self.frames and self.embedder is not None:
            raise OptionError("--embedder embeds --audio; --frames are embedded already")
        if self.audio_root is not None and self.audio is None:
            raise OptionError("--audio-root is for the paths in the CSV of --audio")
        if self.folds is not None:
            check_n_folds(self.folds)
            if self.validation or self.validation_share is not None:
                needless = "--val" if self.validation else "--val-share"
                raise OptionError(f"--folds validates on each fold in turn; leave out {needless}")
        if self.validation_share is not None:
            if self.validation:
                raise OptionError("--val names the clips to validate on; leave out --val-share")
            if self.validation_share != 0:
                check_share(self.validation_share)
        if self.jobs < 1:
            raise OptionError(f"--jobs must be at least 1. Received: {self.jobs}")
        if self.out is not None:
            if not self.resume:
                Run(self.out).check_free()
            else:
                Run(self.out if self.folds is None else self.out / "fold-1").described()

    def load(
        self, log: LogFn, on_progress: Callable[[int, int], None] = lambda n_done, n_clips: None
    ) -> LoadedTraining:
        """Read the frames, or embed the audio; `on_progress` is called with clips done and all."""
        for arguments in filter(None, (self.frames, self.validation)):
            find_frame_files(arguments)  # a wrong path is an error before TensorFlow is loaded
        find_run = latest_run if self.resume else new_run
        run = Run(self.out) if self.out is not None else find_run(self.config.head)
        if self.audio is not None:
            data = self._embed_audio(self.audio, log, on_progress)
        else:
            known = None if self.initial is None else self.initial.labels
            data = self._load_frames(self.frames, self.labels or known or audioset_labels(), log)
        validation = None
        if self.validation:
            validation = self._load_frames(self.validation, data.labels, log)
        log(
            f"{count(len(data.labelled), 'clip')}, "
            f"{count(len(data.labels), 'class', 'classes')}; {self.config.head} -> {run.directory}"
        )
        return LoadedTraining(self, run, data, validation)

    def _load_frames(self, files: Sequence[str], labels: Labels, log: LogFn) -> LabelledClips:
        from classifier.fit import LabelledClips  # imports TensorFlow

        report = ReadReport()
        store = load_clips(find_frame_files(files), max_bad=self.max_bad, report=report)
        for warning in report.warnings():
            log(f"warning: {warning}")
        return LabelledClips(store, labels, files)

    def _embed_audio(
        self, audio: Path, log: LogFn, on_progress: Callable[[int, int], None]
    ) -> LabelledClips:
        from classifier.fit import LabelledClips  # imports TensorFlow

        clips = read_clip_list(audio, self.labels, self.audio_root)
        fold_of = {clip.clip_id: clip.fold for clip in clips.clips}
        has_folds = any(fold is not None for fold in fold_of.values())
        if self.folds is not None and has_folds:
            check_given_folds(list(fold_of.values()), self.folds)
        for note in clips.notes():
            log(f"note: {note}")
        if self.folds is None and has_folds:
            log(f"note: {audio} has a column of folds, which only --folds uses")
        choice = find_embedder(self.embedder or "auto")
        extractor = load_extractor(choice.name, precision=choice.precision)
        if choice.reason:
            log(choice.reason)
        report = EmbedReport()
        store = ClipStore.from_clips(
            embed_clips(
                clips,
                extractor,
                max_bad=self.max_bad,
                jobs=self.jobs,
                report=report,
                on_progress=lambda done: on_progress(
                    done.n_embedded + done.n_cached + len(done.bad), len(clips.clips)
                ),
            )
        )
        for where, sentence in report.warnings:
            log(f"warning: {where}: {sentence}")
        for bad in report.bad:
            log(f"warning: {prefix_location(bad.where, bad.reason)}; left out")
        log(f"{count(report.n_embedded, 'clip')} embedded, {report.n_cached:,} cached")
        folds = None
        if self.folds is not None and has_folds:
            folds = [fold for clip_id in store.ids if (fold := fold_of[clip_id]) is not None]
        return LabelledClips(store, clips.labels, [str(audio)], folds)


@dataclass(frozen=True, eq=False)
class LoadedTraining:
    """A training that can begin; without `validation` it holds out some of `data`."""

    setup: TrainingSetup
    run: Run
    data: LabelledClips
    validation: LabelledClips | None

    def fit(self, observer: Observer | None, should_stop: Callable[[], bool], log: LogFn) -> Fitted:
        """Train, and export the best weights; for the arguments see `classifier.api.train`."""
        from classifier.fit import FitOptions, cross_validate, fit  # imports TensorFlow

        setup, share = self.setup, self.setup.validation_share
        options = FitOptions(
            validation_share=DEFAULT_SHARE if share is None else share,
            initial=setup.initial,
            licence=setup.licence,
            resume=setup.resume,
            observer=observer,
            should_stop=should_stop,
            log=log,
        )
        if setup.folds is not None:
            return cross_validate(setup.config, self.data, setup.folds, self.run, options)
        return fit(setup.config, self.data, self.validation, self.run, options)
