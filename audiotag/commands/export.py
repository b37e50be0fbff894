"""`audiotag export`: export training runs as a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiotag.commands.options import CommonOptions, add_common, add_frames, read_json
from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.stderr import hide_native_logs
from classifier.frame_data.clip_store import load_clips
from classifier.frame_data.finding import find_frame_files
from classifier.training.runs import Run
from vggish.common.wording import count, printable

_EPILOG = """\
examples:
  audiotag export runs/gru-1 -o tagger           the best weights so far
  audiotag export runs/gru-1 runs/fa-1 -o both   an ensemble of any heads
  audiotag evaluate runs/gru-1 --frames eval/ --json > metrics.json
  audiotag export runs/gru-1 -o tagger --float16 --metrics metrics.json

exit status:
  0 exported    2 no bundle was written
"""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    """The options of `audiotag export`; the help of its parser describes them."""

    runs: Sequence[Path]
    out: Path
    name: str | None
    licence: str
    metrics: Path | None
    notes: str
    embedders: Sequence[str]
    calibrate: Sequence[str]
    float16: bool
    saved_model: bool
    overwrite: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audiotag export`."""
    parser.usage = "audiotag export RUN ... -o DIR [options]"
    parser.description = (
        "Export the best weights of a run as a bundle, which needs no TensorFlow.\n"
        "Several runs become one ensemble."
    )
    parser.epilog = _EPILOG
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="directory of a training run"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="directory of the bundle"
    )
    parser.add_argument("--name", help="name of the bundle (default: the name of DIR)")
    parser.add_argument(
        "--licence", default="", metavar="TEXT", help="licence of the training data"
    )
    parser.add_argument(
        "--metrics",
        type=Path,
        metavar="JSON",
        help="output of `audiotag evaluate --json`, for the model card",
    )
    parser.add_argument(
        "--notes", default="", metavar="TEXT", help="further text for the model card"
    )
    parser.add_argument(
        "--embedders",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="embedders whose frames the bundle accepts (default: those of the training data)",
    )
    add_frames(
        parser,
        "--calibrate",
        "labelled frames to calibrate the scores on, not those of an evaluation (default: the "
        "clips that training held out)",
    )
    parser.add_argument(
        "--float16", action="store_true", help="store weights in float16, which halves the files"
    )
    parser.add_argument(
        "--saved-model", action="store_true", help="add a SavedModel for TensorFlow Serving"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `audiotag export`."""
    return export_runs(Options(**vars(arguments)))


def export_runs(options: Options) -> int:
    """Export the runs, and print where the bundle is."""
    files = options.calibrate
    calibrate_on = load_clips(find_frame_files(files)) if files else None
    with hide_native_logs(debug=options.debug):
        # This imports TensorFlow, whose C++ code logs.
        from classifier.export import ExportOptions, export

        contents = ExportOptions(
            name=options.name,
            licence=options.licence,
            notes=options.notes,
            metrics=None if options.metrics is None else read_json(options.metrics),
            embedders=options.embedders,
            calibrate_on=calibrate_on,
            half=options.float16,
            saved_model=options.saved_model,
            overwrite=options.overwrite,
        )
        bundle = export([Run(directory) for directory in options.runs], options.out, contents)
    if not options.quiet:
        n_classes = count(len(bundle.labels), "class", "classes")
        print(printable(f"bundle: {bundle.directory}, {n_classes}"))
    return EXIT_OK
