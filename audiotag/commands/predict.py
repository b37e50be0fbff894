"""`audiotag predict`: predict scores for clips of frames."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag.commands.options import add_common, add_force, add_frames, add_max_bad, nonempty_name
from audiotag.terminal.bars import counting_bar
from audiotag.terminal.outputs import refuse_overwriting
from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.stderr import print_status, warn_bad_records
from audiotag.terminal.stdout import STDOUT, require_stdout
from vggish.common.wording import count as _count
from vggish.errors import OptionError

if TYPE_CHECKING:
    pass


_PREDICT_EPILOG = """\
formats:
  yt8m      VideoId,LabelConfidencePairs, as YouTube-8M's (the default of .csv)
  wide      a column for each class, as Kaggle's submissions
  jsonl     a line for each clip, with names (.jsonl)
  parquet   scores of all classes (.parquet)

exit status:
  0 predicted    2 nothing could be done    130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "audiotag predict BUNDLE --frames FILE ... -o predictions.csv [options]"
    parser.description = "Write what a bundle says of each clip."
    parser.epilog = _PREDICT_EPILOG
    parser.add_argument(
        "bundle",
        type=nonempty_name,
        metavar="BUNDLE",
        help="a bundle, a run, or audioset-gru, audioset-best",
    )
    add_frames(parser, "--frames", "frames, labelled or not", required=True)
    add_max_bad(parser)
    out = parser.add_argument_group("output")
    out.add_argument("-o", "--out", required=True, metavar="FILE", help="- for standard output")
    out.add_argument(
        "--format", choices=("yt8m", "wide", "jsonl", "parquet"), help="(default: by the suffix)"
    )
    out.add_argument(
        "--top-k", type=int, default=20, metavar="K", help="tags of a clip (default 20)"
    )
    add_force(out)
    add_common(out)


def run(options: argparse.Namespace) -> int:
    from classifier.bundles.bundle import load
    from classifier.frame_data.clips import ReadReport
    from classifier.frame_data.finding import find_frame_files
    from classifier.frame_data.records import read_clips
    from classifier.predict import predict

    if options.top_k < 1:
        raise OptionError(f"--top-k must be at least 1. Received: {options.top_k}")
    if options.out == STDOUT:
        if options.format is None:
            raise OptionError("-o - needs --format, for there is no suffix to tell it")
        require_stdout()
    kinds = {".csv": "yt8m", ".jsonl": "jsonl", ".parquet": "parquet"}
    file_format = options.format or kinds.get(Path(options.out).suffix.lower())
    if file_format is None:
        raise OptionError(
            f"cannot tell the format of {options.out}; use .csv, .jsonl or .parquet, or --format"
        )
    paths = find_frame_files(options.frames)
    bundle, report = load(options.bundle), ReadReport()
    refuse_overwriting([("-o", options.out)], [*paths, *bundle.directory.rglob("*")])
    clips = read_clips(paths, max_bad=options.max_bad, report=report)
    started = time.perf_counter()
    with counting_bar(options, "predicting", None) as advance:
        done = predict(
            bundle,
            clips,
            sys.stdout.buffer if options.out == STDOUT else Path(options.out),
            file_format,
            top_k=options.top_k,
            force=options.force,
            on_progress=advance,
        )
    warn_bad_records(options, report)
    seconds = time.perf_counter() - started
    where = "standard output" if options.out == STDOUT else options.out
    print_status(options, f"{_count(done.n_clips, 'clip')} -> {where}, "
            f"{done.n_clips / max(seconds, 1e-9):,.0f} clips/s")  # fmt: skip
    return EXIT_OK
