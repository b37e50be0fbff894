"""`audiotag export`: make a bundle, a SavedModel or an ONNX file of a training run."""

from __future__ import annotations

import argparse
from pathlib import Path

from audiotag.commands.options import add_common, add_frames, read_json
from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.stderr import hide_native_logs
from vggish.common.wording import count as _count, printable as _printable

_EXPORT_EPILOG = """\
examples:
  audiotag export runs/gru-1 -o tagger             its best weights so far, also of a stopped run
  audiotag export runs/gru-1 runs/fa-1 -o both     heads of any kind, which vote
  audiotag evaluate runs/gru-1 --frames eval/ --json > metrics.json
  audiotag export runs/gru-1 -o tagger --float16 --metrics metrics.json --licence CC-BY-4.0

exit status:
  0 exported    2 nothing was written
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "audiotag export RUN ... -o DIR [options]"
    parser.description = "Write the best weights of a run as a bundle, which needs no TensorFlow; of several runs, as an ensemble."
    parser.epilog = _EXPORT_EPILOG
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directory of a run")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the bundle")
    parser.add_argument("--name", help="of the bundle (default: the name of DIR)")
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the data")
    parser.add_argument(
        "--metrics", type=Path, metavar="JSON",
        help="for the model card: what `audiotag evaluate --json` printed",
    )  # fmt: skip
    parser.add_argument("--notes", default="", metavar="TEXT", help="for the model card")
    parser.add_argument(
        "--embedders", nargs="+", action="extend", default=[], metavar="NAME",
        help="whose frames it is made for (default: those of the training data)",
    )  # fmt: skip
    add_frames(
        parser,
        "--calibrate",
        "labelled frames to calibrate the scores on (default: what training held out); never "
        "those of an evaluation",
    )
    parser.add_argument(
        "--float16", action="store_true", help="round large weights, which halves the files"
    )
    parser.add_argument(
        "--saved-model", action="store_true", help="add a SavedModel, to serve with TensorFlow"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle that is there")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from classifier.training.runs import Run

    calibrate_on = None
    if options.calibrate:
        from classifier.frame_data.clip_store import load_clips
        from classifier.frame_data.finding import find_frame_files

        calibrate_on = load_clips(find_frame_files(options.calibrate))
    with hide_native_logs(options):
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
        n_classes = _count(len(bundle.labels), "class", "classes")
        print(_printable(f"bundle: {bundle.directory}, {n_classes}"))
    return EXIT_OK
