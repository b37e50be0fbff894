"""`audiotag train`: train a head on labelled frames or audio."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import shutil
import statistics
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiotag.commands.options import (
    EMBEDDER,
    FRAMES,
    MAX_BAD,
    CommonOptions,
    add_options,
    option,
    option_name,
)
from audiotag.terminal.bars import counting_bar
from audiotag.terminal.signals import EXIT_OK, stop_on_signals
from audiotag.terminal.streams import hide_native_logs, log
from audiotag.terminal.training import TrainingDisplay
from classifier.bundles.bundle import load
from classifier.heads.settings import DEFAULT_HEAD, HEADS
from classifier.labels import read_labels
from classifier.training.config import GROUPS, TrainingConfig
from classifier.training.runs import Fitted
from classifier.training_setup import TrainingSetup
from vggish.common.bounds import settings_of
from vggish.common.choices import EmbedderName
from vggish.common.wording import printable, score
from vggish.errors import OptionError

_EPILOG = """\
examples:
  audiotag train --frames data/*.tfrecord  a GRU on AudioSet, into runs/gru-1
  audiotag train --frames data/ --head attention --set units=512 -o runs/a
  audiotag train --frames data/ -o runs/a --resume
                                           continue exactly where it stopped
  audiotag train --audio clips/            your recordings, a folder per class
  audiotag train --audio clips/ --embedder mini
                                           ... for a bundle without VGGish
  audiotag train --frames noisy/ -o runs/noisy
                                           first stage: noisy labels
  audiotag train --frames curated/ --init-from runs/noisy --learning-rate 3e-4
                                           second stage: curated labels
  audiotag train --frames data/ --folds 5  five heads as one ensemble

exit status:
  0 trained    2 not trained    130 interrupted; the best weights are kept
"""

# The fields of `TrainingConfig` that are options.
_CONFIG_FIELDS = [name for names in GROUPS.values() for name in names]


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    """The options of `audiotag train`."""

    frames: Sequence[str] = option(
        "labelled frames: files, directories, quoted patterns", group="data", **FRAMES
    )
    audio: Path | None = option(
        "labelled audio: a directory with a folder per class, or a CSV with the columns "
        "path, labels (and start, end, fold)",
        "DIR|CSV",
    )
    audio_root: Path | None = option(
        "directory from which the relative paths in the CSV of --audio start (default: that of "
        "the CSV)",
        "DIR",
    )
    val: Sequence[str] = option("frames to validate on (default: a share of the data)", **FRAMES)
    val_share: float | None = option(
        "share of the clips to validate on; 0 trains on all clips, for all epochs (default: 0.1)",
        "SHARE",
    )
    folds: int | None = option(
        "number of folds of a cross-validation, whose heads become one ensemble", "K"
    )
    labels: Path | None = option(
        "the classes (default: AudioSet's 527, or the folders of --audio), with the columns "
        "index, mid, display_name",
        "CSV",
    )
    max_bad: int = option(**MAX_BAD)
    jobs: int = option(
        "number of files of --audio to embed at once (default: 2)",
        "N",
        flags="--jobs -j",
        default=2,
    )
    embedder: EmbedderName | None = option(**EMBEDDER)
    out: Path | None = option(
        "directory of the run (default: runs/HEAD-N)", "RUN", flags="-o --out", group="run"
    )
    resume: bool = option("continue a run that was stopped")
    init_from: str | None = option(
        "bundle whose weights to start from; its classes may differ", "BUNDLE"
    )
    licence: str = option("licence of the data, for the model card", "TEXT", default="")
    head: str | None = option(
        f"head to train; see --list-heads (default: {DEFAULT_HEAD})", "NAME", group="head"
    )
    set: Sequence[str] = option(
        "settings of the head, such as units=256; see --list-heads", "NAME=VALUE"
    )
    list_heads: bool = option("list the heads with their settings, and exit")
    config: dict[str, Any]

    def setup(self) -> TrainingSetup:
        """The setup that these options describe."""
        return TrainingSetup(
            config=self._training_config(),
            head_is_given=bool(self.head or self.set),
            frames=self.frames,
            audio=self.audio,
            audio_root=self.audio_root,
            labels=None if self.labels is None else read_labels(self.labels),
            validation=self.val,
            validation_share=self.val_share,
            folds=self.folds,
            out=self.out,
            resume=self.resume,
            initial=None if self.init_from is None else load(self.init_from),
            licence=self.licence,
            embedder=self.embedder,
            max_bad=self.max_bad,
            jobs=self.jobs,
        )

    def _training_config(self) -> TrainingConfig:
        try:
            head = DEFAULT_HEAD if self.head is None else self.head
            return TrainingConfig(head=head, settings=_settings(self.set), **self.config)
        except OptionError as error:
            # A message begins with the name of a field, or has one with an underscore.
            names = ["^head", *(n if "_" in n else f"^{n}" for n in _CONFIG_FIELDS)]
            fields = re.compile(rf"\b({'|'.join(names)})\b")
            raise OptionError(fields.sub(lambda m: option_name(m[0]), str(error))) from error


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise OptionError(f"--set takes NAME=VALUE, such as units=256. Received: {pair!r}")
        settings[name] = value
    return settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audiotag train`."""
    parser.usage = "audiotag train (--frames FILE ... | --audio DIR) [options]"
    parser.description = "Train a head on labelled frames or audio: AudioSet's, or your own."
    parser.epilog = _EPILOG
    add_options(parser, Options, common_group="run")
    settings = settings_of(TrainingConfig)
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            setting = settings[name]
            is_whole = setting.value_type is int
            default = f"{setting.default:,}" if is_whole else setting.default
            group.add_argument(
                option_name(name),
                type=setting.value_type,
                choices=setting.choices or None,
                default=setting.default,
                metavar=None if setting.choices else "N" if is_whole else "X",
                help=f"{setting.help} (default: {default})",
            )


def run(arguments: argparse.Namespace) -> int:
    """Train a head, and print its metrics and where its bundle is."""
    values = vars(arguments)
    config = {name: values.pop(name) for name in _CONFIG_FIELDS}
    options = Options(**values, config=config)
    if options.list_heads:
        return _list_heads()
    setup = options.setup()
    with hide_native_logs(debug=options.debug):
        with counting_bar("embedding", quiet=options.quiet) as advance:
            loaded = setup.load(options.log, advance)
        # Until here there is nothing to keep, and Ctrl-C ends at once.
        with stop_on_signals() as stop, TrainingDisplay(quiet=options.quiet) as display:
            fitted = loaded.fit(display, stop.is_set, display.log)
    if not options.quiet:
        is_ensemble = options.folds is not None
        for line in _result_lines(fitted, loaded.run.directory, is_ensemble=is_ensemble):
            print(printable(line))
    if not fitted.is_finished:
        out = "" if options.out is not None else f" -o {loaded.run.directory}"
        log(f"stopped; the same command with --resume{out} continues")
        return stop.status
    return EXIT_OK


def _list_heads() -> int:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for name, kind in HEADS.items():
        settings = ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(kind))
        print(textwrap.fill(f"{name:<22} {settings}", width, subsequent_indent=" " * 23))
    return EXIT_OK


def _result_lines(fitted: Fitted, directory: Path, *, is_ensemble: bool) -> list[str]:
    lines = []
    scores = [result.metrics.get("mAP", math.nan) for result in fitted.results]
    if is_ensemble and fitted.is_finished:
        spread = statistics.stdev(scores)
        lines.append(f"mAP of {len(scores)} folds: {statistics.mean(scores):.4f} +- {spread:.4f}")
    elif not is_ensemble and fitted.results[0].best_epoch and not math.isnan(scores[0]):
        result = fitted.results[0]
        shown = "  ".join(f"{n} {score(result.metrics[n])}" for n in ("mAP", "mAUC", "lwlrap"))
        lines.append(f"best epoch {result.best_epoch} of {result.n_epochs}: {shown} (validation)")
        if math.isnan(result.metrics["mAUC"]):
            lines.append("mAUC is undefined: no class has validation clips with and without it")
    if fitted.bundle is not None:
        lines.append(f"bundle: {fitted.bundle.directory}")
    else:
        missing = "not every fold" if is_ensemble else "no epoch"
        lines.append(f"no bundle yet in {directory}: {missing} has finished")
    return lines
