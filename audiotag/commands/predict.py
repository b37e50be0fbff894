"""`audiotag predict`: predict scores for clips of frames."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiotag.commands.options import (
    BUNDLE,
    FORCE,
    FRAMES,
    MAX_BAD,
    CommonOptions,
    add_options,
    option,
)
from audiotag.terminal.bars import counting_bar
from audiotag.terminal.outputs import refuse_overwriting
from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.streams import STDOUT, require_stdout
from classifier.bundles.bundle import load
from classifier.frame_data.clips import ReadReport
from classifier.frame_data.finding import find_frame_files
from classifier.frame_data.records import read_clips
from classifier.names import PREDICTION_FORMATS
from classifier.predict import DEFAULT_TOP_K, format_of, predict
from vggish.common.wording import count
from vggish.errors import OptionError

_EPILOG = """\
formats:
  yt8m      VideoId,LabelConfidencePairs, as YouTube-8M (the default for .csv)
  wide      CSV with a column per class, as Kaggle's submissions
  jsonl     one line of JSON per clip, with class names (.jsonl)
  parquet   the scores of all classes (.parquet)

exit status:
  0 predicted    2 no prediction was written    130 interrupted
"""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    """The options of `audiotag predict`."""

    bundle: str = option(flags="bundle", **BUNDLE)
    frames: Sequence[str] = option(
        "frames, labelled or not: files, directories, quoted patterns", required=True, **FRAMES
    )
    max_bad: int = option(**MAX_BAD)
    out: str = option(
        "file to write, or - for stdout", "FILE", flags="-o --out", group="output", required=True
    )
    format: str | None = option(
        "format of the file (default: that of its suffix)", choices=PREDICTION_FORMATS
    )
    top_k: int = option(
        f"number of tags per clip in yt8m and jsonl (default: {DEFAULT_TOP_K})",
        "K",
        default=DEFAULT_TOP_K,
    )
    force: bool = option(**FORCE)

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise OptionError(f"--top-k must be at least 1. Received: {self.top_k}")
        if self.out == STDOUT and self.format is None:
            raise OptionError("-o - needs --format, as there is no suffix to take it from")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audiotag predict`."""
    parser.usage = "audiotag predict BUNDLE --frames FILE ... -o predictions.csv [options]"
    parser.description = "Predict the scores of clips of frames, and write them to a file."
    parser.epilog = _EPILOG
    add_options(parser, Options)


def run(arguments: argparse.Namespace) -> int:
    """Write the scores of all clips, and log how many there were."""
    options = Options(**vars(arguments))
    if options.out == STDOUT:
        require_stdout()
    file_format = options.format or format_of(options.out)
    paths = find_frame_files(options.frames)
    bundle, report = load(options.bundle), ReadReport()
    refuse_overwriting([("-o", options.out)], [*paths, *bundle.directory.rglob("*")])
    started = time.perf_counter()
    with counting_bar("predicting", quiet=options.quiet) as advance:
        done = predict(
            bundle,
            read_clips(paths, max_bad=options.max_bad, report=report),
            sys.stdout.buffer if options.out == STDOUT else Path(options.out),
            file_format,
            top_k=options.top_k,
            force=options.force,
            on_progress=advance,
        )
    options.warn_bad_records(report)
    speed = done.n_clips / max(time.perf_counter() - started, 1e-9)
    where = "standard output" if options.out == STDOUT else options.out
    options.log(f"{count(done.n_clips, 'clip')} -> {where}, {speed:,.0f} clips/s")
    return EXIT_OK
