"""`audiotag export`: export training runs as a bundle."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiotag.commands.options import FRAMES, CommonOptions, add_options, option
from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.streams import hide_native_logs
from classifier.frame_data.clip_store import load_clips
from classifier.frame_data.finding import find_frame_files
from classifier.training.runs import Run
from vggish.common.wording import count, printable
from vggish.errors import OptionError

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
    """The options of `audiotag export`."""

    runs: Sequence[Path] = option("directory of a training run", "RUN", flags="runs")
    out: Path = option("directory of the bundle", "DIR", flags="-o --out", required=True)
    name: str | None = option("name of the bundle (default: the name of DIR)")
    licence: str = option("licence of the training data", "TEXT", default="")
    metrics: Path | None = option(
        "output of `audiotag evaluate --json`, for the model card", "JSON"
    )
    notes: str = option("further text for the model card", "TEXT", default="")
    embedders: Sequence[str] = option(
        "embedders whose frames the bundle accepts (default: those of the training data)", "NAME"
    )
    calibrate: Sequence[str] = option(
        "labelled frames to calibrate the scores on, not those of an evaluation (default: "
        "the clips that training held out)",
        **FRAMES,
    )
    float16: bool = option("store weights in float16, which halves the files")
    saved_model: bool = option("add a SavedModel for TensorFlow Serving")
    overwrite: bool = option("replace an existing bundle")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audiotag export`."""
    parser.usage = "audiotag export RUN ... -o DIR [options]"
    parser.description = (
        "Export the best weights of a run as a bundle, which needs no TensorFlow.\n"
        "Several runs become one ensemble."
    )
    parser.epilog = _EPILOG
    add_options(parser, Options)


def run(arguments: argparse.Namespace) -> int:
    """Export the runs, and print where the bundle is."""
    options = Options(**vars(arguments))
    files = options.calibrate
    calibrate_on = load_clips(find_frame_files(files)) if files else None
    with hide_native_logs(debug=options.debug):
        # This imports TensorFlow, whose C++ code logs.
        from classifier.export import ExportOptions, export

        contents = ExportOptions(
            name=options.name,
            licence=options.licence,
            notes=options.notes,
            metrics=None if options.metrics is None else _read_json(options.metrics),
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(f"cannot read {path} as a JSON object: {error}") from error
