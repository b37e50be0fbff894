"""`audiotag evaluate`: evaluate a bundle on labelled frames."""

from __future__ import annotations

import argparse
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
from audiotag.terminal.outputs import Output, check_writable, refuse_overwriting
from audiotag.terminal.signals import EXIT_OK, stop_on_signals
from audiotag.terminal.streams import hide_native_logs, print_json, print_result, require_stdout
from classifier.bundles.bundle import load
from classifier.evaluate import evaluate, watch_run
from classifier.frame_data.clip_store import load_clips
from classifier.frame_data.clips import ReadReport
from classifier.frame_data.finding import find_frame_files
from classifier.frame_data.records import read_clips
from classifier.reports.evaluation import Evaluation
from classifier.reports.figures import check_drawable
from classifier.training.runs import Run
from vggish.common.files import atomic_write
from vggish.common.wording import score
from vggish.errors import FrameFileError, OptionError, write_errors_as

_EPILOG = """\
examples:
  audiotag evaluate runs/gru-1 --frames eval/*.tfrecord
  audiotag evaluate audioset-gru --frames eval/ --json --per-class classes.csv
  audiotag evaluate --watch runs/gru-1 --frames eval/
                                    each new checkpoint during `audiotag train`

exit status:
  0 evaluated    2 not evaluated, or an output not written    130 interrupted
"""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    """The options of `audiotag evaluate`."""

    bundle: str | None = option(flags="bundle", **BUNDLE)
    watch: Path | None = option(
        "instead evaluate each checkpoint of a run as training writes it", "RUN"
    )
    frames: Sequence[str] = option(
        "labelled frames: files, directories, quoted patterns", required=True, **FRAMES
    )
    max_bad: int = option(**MAX_BAD)
    json: bool = option("print JSON instead of a table", group="output")
    per_class: Path | None = option("write a CSV with a row per class", "CSV")
    plot: Path | None = option("draw the results (.png, .svg, .pdf)", "PNG")
    force: bool = option(**FORCE)

    def __post_init__(self) -> None:
        if (self.bundle is None) == (self.watch is None):
            raise OptionError("name a bundle to evaluate, or a run to --watch (and not both)")
        if self.watch is not None and (self.per_class or self.plot):
            raise OptionError("--per-class and --plot are for one bundle, not for --watch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audiotag evaluate`."""
    parser.usage = "audiotag evaluate BUNDLE --frames FILE ... [options]"
    parser.description = "Evaluate a bundle on labelled frames: mAP, mAUC, lwlrap and more."
    parser.epilog = _EPILOG
    add_options(parser, Options)


def run(arguments: argparse.Namespace) -> int:
    """Run `audiotag evaluate`."""
    options = Options(**vars(arguments))
    return evaluate_bundle(options) if options.bundle is not None else evaluate_checkpoints(options)


def evaluate_bundle(options: Options) -> int:
    """Print the metrics of a bundle, and write them where options ask for it."""
    assert options.bundle is not None
    outputs: list[Output] = [("--per-class", options.per_class), ("--plot", options.plot)]
    if options.per_class is None and options.plot is None:
        require_stdout()
    refuse_overwriting(outputs, [])
    for flag, path in outputs:
        if path is not None:
            check_writable(Path(path), flag)
    if options.plot is not None:
        check_drawable(options.plot)
    bundle, report = load(options.bundle), ReadReport()
    paths = find_frame_files(options.frames)
    refuse_overwriting(outputs, [*paths, *bundle.directory.rglob("*")])
    clips = read_clips(paths, max_bad=options.max_bad, report=report)
    with counting_bar("evaluating", quiet=options.quiet) as advance:
        found = evaluate(bundle, clips, bundle.labels, force=options.force, on_progress=advance)
    options.warn_bad_records(report)
    try:
        if options.json:
            print_json(found.as_json())
        else:
            print_result(found.as_table())
    finally:  # a full disk behind stdout must not keep the files from being written
        if options.per_class is not None:
            path = options.per_class
            with write_errors_as(FrameFileError, path), atomic_write(path) as file:
                found.write_per_class_csv(file)
        if options.plot is not None:
            found.plot(options.plot)
    return EXIT_OK


def evaluate_checkpoints(options: Options) -> int:
    """Print a line for each checkpoint, until training ends or a signal comes."""
    assert options.watch is not None
    require_stdout()
    run, report = Run(options.watch), ReadReport()
    run.described()  # raises if it is not a run, before the frames are read
    clips = load_clips(find_frame_files(options.frames), max_bad=options.max_bad, report=report)
    options.warn_bad_records(report)
    with hide_native_logs(debug=options.debug), stop_on_signals() as stop:
        for epoch, found in watch_run(run, clips, stop, force=options.force, log=options.log):
            if options.json:
                print_json({"epoch": epoch, **found.as_json()}, indent=None)
            else:
                print_result(_line(epoch, found))
    return stop.status if stop.is_set() else EXIT_OK


def _line(epoch: int, found: Evaluation) -> str:
    names = ("mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR")
    return f"epoch {epoch:>3}  " + "  ".join(f"{n} {score(found.metrics[n])}" for n in names)
