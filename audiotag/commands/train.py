"""`audiotag train`: train a head on labelled frames or audio."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag.commands.options import (
    DEFAULT_JOBS,
    add_common,
    add_embedder,
    add_frames,
    add_labels_option,
    add_max_bad,
    labelled_frames,
    make_extractor,
)
from audiotag.terminal.bars import counting_bar
from audiotag.terminal.signals import EXIT_INTERRUPTED, EXIT_OK, stop_on_signals
from audiotag.terminal.stderr import hide_native_logs, print_status
from audiotag.terminal.training import TrainingDisplay
from vggish.common.bounds import settings_of
from vggish.common.wording import count as _count, prefix_location, printable as _printable, score
from vggish.errors import OptionError

if TYPE_CHECKING:
    from classifier.fit import Fitted, LabelledClips
    from classifier.labels import Labels
    from classifier.training.config import TrainingConfig


# --- audiotag train ----------------------------------------------------------------------


_TRAIN_EPILOG = """\
examples:
  audiotag train --frames data/*.tfrecord       a GRU on AudioSet's records, into runs/gru-1
  audiotag train --frames data/ --head feature-attention --set units=512 -o runs/fa
  audiotag train --frames data/ -o runs/fa --resume
                                                go on exactly where it stopped
  audiotag train --audio sounds/                your own sounds, a folder for each class
  audiotag train --audio sounds/ --embedder mini
                                                ... for a bundle that needs no VGGish
  audiotag train --frames noisy/ -o runs/noisy  two stages: first what is noisy, ...
  audiotag train --frames curated/ --init-from runs/noisy/bundle --learning-rate 3e-4
                                                ... then what is curated
  audiotag train --frames data/ --folds 5       five heads that vote as one bundle

exit status:
  0 trained    2 nothing could be done    130 interrupted; the best weights so far are kept
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "audiotag train (--frames FILE ... | --audio DIR) [options]"
    parser.description = "Train a head on labelled frames, AudioSet's or your own."
    parser.epilog = _TRAIN_EPILOG
    data = parser.add_argument_group("data")
    add_frames(data, "--frames", "files of labelled frames, directories, 'patterns'")
    data.add_argument(
        "--audio",
        type=Path,
        metavar="DIR|CSV",
        help="your own sounds: a folder for each class, or a CSV with the columns path, labels "
        "(and start, end, fold)",
    )
    add_frames(data, "--val", "frames to validate on (default: a share of --frames)")
    data.add_argument(
        "--val-share",
        type=float,
        metavar="SHARE",
        help="held out by clip id (default 0.1); 0: train on all, for all epochs",
    )
    data.add_argument(
        "--folds", type=int, metavar="K", help="cross-validate; the K heads become one bundle"
    )
    add_labels_option(data, "the classes (default: AudioSet's 527; the folders of --audio)")
    add_max_bad(data)
    data.add_argument(
        "--jobs", "-j", type=int, default=DEFAULT_JOBS, metavar="N",
        help=f"sounds of --audio at once (default {DEFAULT_JOBS})",
    )  # fmt: skip
    add_embedder(data, "of --audio: auto (default) takes VGGish if it is installed, else mini")
    run = parser.add_argument_group("run")
    run.add_argument(
        "-o", "--out", type=Path, metavar="RUN", help="its directory (default: runs/HEAD-N)"
    )
    run.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    run.add_argument(
        "--init-from", metavar="BUNDLE", help="begin with its weights; classes may differ"
    )
    run.add_argument("--licence", default="", metavar="TEXT", help="of the data, for the card")
    add_common(run)
    head = parser.add_argument_group("head")
    head.add_argument("--head", metavar="NAME", help="see --list-heads (default: gru)")
    head.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="settings of the head",
    )  # fmt: skip
    head.add_argument(
        "--list-heads", action="store_true", help="show heads with their settings, and exit"
    )
    _add_training_options(parser)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    from classifier.training.config import GROUPS, TrainingConfig

    settings = settings_of(TrainingConfig)
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            setting = settings[name]
            default = f"{setting.default:,}" if setting.value_type is int else setting.default
            group.add_argument(
                f"--{name.replace('_', '-')}",
                type=setting.value_type,
                choices=setting.choices or None,
                default=setting.default,
                metavar=None if setting.choices else "N" if setting.value_type is int else "X",
                help=f"{setting.help} (default: {default})",
            )


def run(options: argparse.Namespace) -> int:
    if options.list_heads:
        _list_heads()
        return EXIT_OK
    from classifier.frame_data.finding import find_frame_files
    from classifier.training.runs import Run, latest_run, new_run
    from classifier.training.splits import DEFAULT_SHARE

    _check_train(options)
    config = _training_config(options)
    initial = None
    if options.init_from is not None:
        from classifier.bundles.bundle import load

        initial = load(options.init_from)
    with hide_native_logs(options):
        for arguments in filter(None, (options.frames, options.val)):
            find_frame_files(arguments)  # a wrong path is told before TensorFlow is loaded
        from classifier.fit import FitOptions, cross_validate, fit, start_config

        if initial is not None:
            config = start_config(config, initial, bool(options.head or options.set))
        find = latest_run if options.resume else new_run
        run = Run(options.out) if options.out is not None else find(config.head)
        data = _training_data(options, None if initial is None else initial.labels)
        validation = None
        if options.val:
            validation = labelled_frames(options, options.val, data.labels)
        print_status(options, f"{_count(len(data.labelled), 'clip')}, "
                f"{_count(len(data.labels), 'class', 'classes')}; "
                f"{config.head} -> {run.directory}")  # fmt: skip
        # Until here there is nothing to keep, and Ctrl-C ends at once.
        with stop_on_signals() as stop, TrainingDisplay(options) as display:
            how = FitOptions(
                validation_share=(
                    DEFAULT_SHARE if options.val_share is None else options.val_share
                ),
                initial=initial,
                licence=options.licence,
                resume=options.resume,
                observer=display,
                should_stop=stop.is_set,
                log=display.log,
            )
            if options.folds is not None:
                fitted = cross_validate(config, data, options.folds, run, how)
            else:
                fitted = fit(config, data, validation, run, how)
    if not options.quiet:
        print(_printable(_trained(options, run.directory, fitted)))
    if not fitted.is_finished:
        print("audiotag: stopped; the same command with --resume"
              f"{'' if options.out is not None else f' -o {run.directory}'} goes on",
              file=sys.stderr)  # fmt: skip
        return getattr(stop, "status", EXIT_INTERRUPTED)
    return EXIT_OK


def _check_train(options: argparse.Namespace) -> None:
    """Raise what can be known to be wrong before anything is read."""
    from classifier.training.runs import Run
    from classifier.training.splits import check_n_folds, check_share

    if bool(options.frames) == (options.audio is not None):
        raise OptionError(
            "say what to train on: --frames for files of frames, or --audio for sounds"
            + (", not both" if options.frames else "")
        )
    if options.frames and options.embedder is not None:
        raise OptionError(
            "--embedder says what embeds the sounds of --audio; --frames are embedded already"
        )
    if options.folds is not None:
        check_n_folds(options.folds)
        if options.val or options.val_share is not None:
            needless = "--val" if options.val else "--val-share"
            raise OptionError(f"--folds validates on each fold in turn; leave out {needless}")
    if options.val_share is not None:
        if options.val:
            raise OptionError("--val brings the clips to validate on; leave out --val-share")
        if options.val_share != 0:
            check_share(options.val_share)
    if options.jobs < 1:
        raise OptionError(f"--jobs must be at least 1. Received: {options.jobs}")
    if options.out is not None:
        if not options.resume:
            Run(options.out).check_free()
        elif options.folds is None:
            Run(options.out).described()
        else:
            Run(options.out / "fold-1").described()


def _training_config(options: argparse.Namespace) -> TrainingConfig:
    import re

    from classifier.heads.settings import DEFAULT_HEAD
    from classifier.training.config import GROUPS, TrainingConfig

    names = [name for group in GROUPS.values() for name in group]
    try:
        return TrainingConfig(
            head=options.head or DEFAULT_HEAD,
            settings=_settings(options.set),
            **{name: getattr(options, name) for name in names},
        )
    except OptionError as error:
        # Fields begin a message or have an underscore; here they are called as they are typed.
        fields = "|".join(["^head", *(name if "_" in name else f"^{name}" for name in names)])
        typed = re.sub(
            rf"\b({fields})\b", lambda found: f"--{found[0].replace('_', '-')}", str(error)
        )
        raise OptionError(typed) from error


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise OptionError(f"--set takes NAME=VALUE, such as units=256. Received: {pair!r}")
        settings[name] = value
    return settings


def _list_heads() -> None:
    import dataclasses

    from classifier.heads.settings import HEADS

    for name, kind in HEADS.items():
        settings = ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(kind))
        print(f"{name:<22} {settings}")


def _training_data(options: argparse.Namespace, known: Labels | None) -> LabelledClips:
    """The clips of --frames or --audio, with their classes."""
    from classifier.fit import LabelledClips
    from classifier.labels import audioset_labels, read_labels

    classes = None if options.labels is None else read_labels(options.labels)
    if options.audio is None:
        return labelled_frames(options, options.frames, classes or known or audioset_labels())
    from classifier.audio_data.clip_list import read_clip_list
    from classifier.audio_data.embed import EmbedReport, embed_clips
    from classifier.frame_data.clip_store import ClipStore
    from classifier.training.splits import check_given_folds

    clip_list = read_clip_list(options.audio, classes)
    folds = {clip.clip_id: clip.fold for clip in clip_list.clips}
    names_folds = any(fold is not None for fold in folds.values())
    if options.folds is not None and names_folds:
        check_given_folds(list(folds.values()), options.folds)
    for note in clip_list.notes():
        print_status(options, f"note: {note}")
    if options.folds is None and names_folds:
        print_status(options, f"note: {options.audio} names folds, which only --folds heeds")
    extractor, report = make_extractor(options), EmbedReport()
    with counting_bar(options, "embedding", len(clip_list.clips)) as advance:
        store = ClipStore.from_clips(
            embed_clips(
                clip_list,
                extractor,
                max_bad=options.max_bad,
                jobs=options.jobs,
                report=report,
                on_progress=lambda done: advance(done.n_embedded + done.n_cached + len(done.bad)),
            )
        )
    for where, sentence in report.warnings:
        print_status(options, f"warning: {where}: {sentence}")
    for bad in report.bad:
        print_status(options, f"warning: {prefix_location(bad.where, bad.reason)}; left out")
    print_status(
        options, f"{_count(report.n_embedded, 'sound')} embedded, {report.n_cached:,} cached"
    )
    given = [fold for clip_id in store.ids if (fold := folds[clip_id]) is not None]
    uses_folds = options.folds is not None and names_folds
    return LabelledClips(
        store, clip_list.labels, [str(options.audio)], given if uses_folds else None
    )


def _trained(options: argparse.Namespace, directory: Path, fitted: Fitted) -> str:
    """What training came to, in a few lines."""
    import math
    import statistics

    lines = []
    scores = [result.metrics.get("mAP", math.nan) for result in fitted.results]
    if options.folds is not None and fitted.is_finished:
        spread = statistics.stdev(scores)
        lines.append(f"mAP of {len(scores)} folds: {statistics.mean(scores):.4f} +- {spread:.4f}")
    elif options.folds is None and fitted.results[0].best_epoch and not math.isnan(scores[0]):
        result = fitted.results[0]
        shown = "  ".join(f"{n} {score(result.metrics[n])}" for n in ("mAP", "mAUC", "lwlrap"))
        lines.append(f"best epoch {result.best_epoch} of {result.n_epochs}: {shown} (validation)")
        if math.isnan(result.metrics["mAUC"]):
            lines.append("mAUC is not measured: no class has validation clips with and without it")
    if fitted.bundle is not None:
        lines.append(f"bundle: {fitted.bundle.directory}")
    else:
        missing = "no epoch" if options.folds is None else "not every fold"
        lines.append(f"no bundle yet in {directory}: {missing} has ended")
    return "\n".join(lines)
