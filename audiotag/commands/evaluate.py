"""`audiotag evaluate`: evaluate a bundle on labelled frames."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag.commands.options import (
    add_common,
    add_force,
    add_frames,
    add_max_bad,
    load_frames,
    nonempty_name,
)
from audiotag.terminal.bars import counting_bar
from audiotag.terminal.outputs import check_writable, refuse_overwriting
from audiotag.terminal.signals import EXIT_INTERRUPTED, EXIT_OK, stop_on_signals
from audiotag.terminal.stderr import hide_native_logs, print_status, warn_bad_records
from audiotag.terminal.stdout import print_result, require_stdout, to_json
from vggish.common.wording import score
from vggish.errors import AudiotagError, FrameFileError, OptionError, write_errors_as

if TYPE_CHECKING:
    from classifier.reports.evaluation import Evaluation


# --- audiotag evaluate, predict, export, inspect -----------------------------------------


_EVALUATE_EPILOG = """\
examples:
  audiotag evaluate runs/gru-1 --frames eval/*.tfrecord
  audiotag evaluate weights/audioset-gru --frames eval/ --json --per-class classes.csv
  audiotag evaluate --watch runs/gru-1 --frames eval/
                                    each new checkpoint while `audiotag train` goes on

exit status:
  0 evaluated    2 nothing could be done, or a file not be written    130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "audiotag evaluate BUNDLE --frames FILE ... [options]"
    parser.description = "Measure a bundle on labelled frames."
    parser.epilog = _EVALUATE_EPILOG
    parser.add_argument(
        "bundle",
        type=nonempty_name,
        nargs="?",
        metavar="BUNDLE",
        help="a bundle, a run, or audioset-gru, audioset-best",
    )
    parser.add_argument(
        "--watch", type=Path, metavar="RUN", help="evaluate each new checkpoint of a run instead"
    )
    add_frames(parser, "--frames", "labelled frames", required=True)
    add_max_bad(parser)
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="print JSON instead of a table")
    out.add_argument("--per-class", type=Path, metavar="CSV", help="write a row for each class")
    out.add_argument("--plot", type=Path, metavar="PNG", help="draw it (.png, .svg, .pdf)")
    add_force(out)
    add_common(out)


def run(options: argparse.Namespace) -> int:
    from classifier.bundles.bundle import load
    from classifier.evaluate import evaluate
    from classifier.frame_data.clips import ReadReport
    from classifier.frame_data.finding import find_frame_files
    from classifier.frame_data.records import read_clips
    from classifier.reports.figures import check_drawable

    if (options.bundle is None) == (options.watch is None):
        raise OptionError("name a bundle to evaluate, or a run to --watch (and not both)")
    if options.watch is not None:
        return _watch(options)
    outputs = {"--per-class": options.per_class, "--plot": options.plot}
    if not any(outputs.values()):
        require_stdout()
    refuse_overwriting(outputs.items(), [])
    for option, path in outputs.items():
        if path is not None:
            check_writable(path, option)
    if options.plot is not None:
        check_drawable(options.plot)
    bundle, report = load(options.bundle), ReadReport()
    paths = find_frame_files(options.frames)
    refuse_overwriting(outputs.items(), [*paths, *bundle.directory.rglob("*")])
    clips = read_clips(paths, max_bad=options.max_bad, report=report)
    with counting_bar(options, "evaluating", None) as advance:
        found = evaluate(bundle, clips, bundle.labels, force=options.force, on_progress=advance)
    warn_bad_records(options, report)
    try:
        print_result(to_json(found.as_json()) if options.json else found.as_table())
    finally:  # one place that is full must not keep it from the others
        _write_evaluation(options, found)
    return EXIT_OK


def _write_evaluation(options: argparse.Namespace, found: Evaluation) -> None:
    from vggish.common.files import atomic_write

    path = options.per_class
    if path is not None:
        with write_errors_as(FrameFileError, path), atomic_write(path) as file:
            found.write_per_class_csv(file)
    if options.plot is not None:
        found.plot(options.plot)


def _watch(options: argparse.Namespace) -> int:
    """Evaluate checkpoints as they come, until the run is finished or a signal comes."""
    from classifier.evaluate import evaluate, watch
    from classifier.training.runs import Run, read_arrays

    if options.per_class is not None or options.plot is not None:
        raise OptionError("--per-class and --plot are for one bundle, not for --watch")
    require_stdout()
    run = Run(options.watch)
    config, labels = run.config(), run.labels()
    store = load_frames(options, options.frames)
    with hide_native_logs(options), stop_on_signals() as stop:
        from classifier.training.network import Network
        from classifier.training.transfer import set_weights

        network = Network([config], len(labels))

        def evaluate_one(path: Path) -> tuple[int, Evaluation] | None:
            try:
                weights, meta = read_arrays(path)
            except AudiotagError:
                if path.exists():
                    raise
                return None  # training has removed it meanwhile
            set_weights(network.model, weights)
            found = evaluate(network, store, labels, force=options.force)
            return int(meta["epoch"]), found

        results = watch(run.checkpoints, evaluate_one, stop, is_finished=lambda: run.is_finished)
        due = 1
        for _, result in results:
            if result is not None:
                epoch, found = result
                if epoch > due:
                    gone = f"{due}" if epoch == due + 1 else f"{due} to {epoch - 1}"
                    print_status(options, f"note: not evaluated: epoch {gone}; a run keeps its latest "
                            "checkpoints only")  # fmt: skip
                due = epoch + 1
                print_result(_watched(epoch, found, as_json=options.json))
    if stop.is_set():
        return getattr(stop, "status", EXIT_INTERRUPTED)
    return EXIT_OK


def _watched(epoch: int, found: Evaluation, *, as_json: bool) -> str:
    if as_json:
        return to_json({"epoch": epoch, **found.as_json()}, indent=None)
    names = ("mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR")
    return f"epoch {epoch:>3}  " + "  ".join(f"{n} {score(found.metrics[n])}" for n in names)
