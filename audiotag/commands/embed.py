"""`audiotag embed`: write the frames of audio files."""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag.commands.options import (
    DEFAULT_JOBS,
    add_common,
    add_device,
    add_embedder,
    add_inputs,
    input_names,
    make_extractor,
)
from audiotag.terminal.bars import ProgressBar
from audiotag.terminal.outputs import (
    MAX_OUTPUTS_NAMED,
    check_writable,
    refuse_both_outputs,
    refuse_overwriting,
)
from audiotag.terminal.signals import EXIT_OK, EXIT_SOME_FAILED
from audiotag.terminal.stderr import explain
from audiotag.terminal.stdout import STDOUT, send_to_stdout
from vggish.common.choices import FRAME_FORMATS, PRECISIONS, RESAMPLERS, TAILS, VALUES
from vggish.common.wording import count as _count, printable as _printable
from vggish.errors import AudioError, FrameFileError, OptionError
from vggish.params import PATCH_SECONDS

if TYPE_CHECKING:
    from vggish.audio.inputs import Inputs
    from vggish.batch.embed import BatchReport, Failure
    from vggish.batch.sinks import Destination


_EMBED_EPILOG = """\
examples:
  audiotag embed clip.wav                       writes clip.npz here
  audiotag embed sounds/ --out-dir frames       one .npz each, in the same tree
  audiotag embed 'data/**/*.flac' -o all.csv    one file for all
  audiotag embed sounds/ -o all.tfrecord --hop 1
                                                rows advance 1 s, as AudioSet's
  audiotag embed sounds/ --out-dir frames --resume
                                                go on with a run that was killed
  ffmpeg -i film.mkv -f wav - | audiotag embed - -o film.csv

exit status:
  0 all embedded    1 some inputs failed    2 nothing could be done
  130 interrupted
"""


# --- audiotag embed ----------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "audiotag embed INPUT ... [options]"
    parser.description = "Turn sound into AudioSet-compatible frames: 128 numbers for each 0.96 s."
    parser.epilog = _EMBED_EPILOG
    add_inputs(parser)
    where = parser.add_argument_group("output")
    where.add_argument(
        "-o", "--out", metavar="FILE", help="one file for all; its suffix says the format"
    )
    where.add_argument(
        "--out-dir",
        metavar="DIR",
        help="one file per input, in the tree of the inputs (default: the current directory)",
    )
    where.add_argument(
        "--format",
        choices=FRAME_FORMATS,
        help="format of the outputs (default: npz, or -o's suffix)",
    )
    where.add_argument(
        "--values",
        choices=VALUES,
        default="uint8",
        help="quantised frames (default), float32 after PCA, or VGGish's raw output",
    )
    where.add_argument(
        "--labels", metavar="CSV", help="labels for tfrecord and jsonl: columns clip, labels"
    )
    where.add_argument(
        "--label-names",
        metavar="CSV",
        help="class_labels_indices.csv, if the labels are names or AudioSet ids",
    )
    how = parser.add_argument_group("method")
    add_embedder(how, "auto (default) takes VGGish if it is installed, else mini, built in")
    how.add_argument(
        "--hop",
        type=float,
        default=PATCH_SECONDS,
        metavar="SECONDS",
        help=f"from one frame to the next (default {PATCH_SECONDS}; AudioSet's advance by 1)",
    )
    how.add_argument(
        "--tail",
        choices=TAILS,
        default="pad",
        help="complete the last patch with silence (default), or leave it out",
    )
    how.add_argument(
        "--resampler",
        choices=RESAMPLERS,
        default="soxr",
        help="soxr (default), or the slow one of the reference",
    )
    how.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of VGGish: float32 (default), or int8: two to three times as fast, a little "
        "different; mini has one only",
    )
    add_device(how)
    run = parser.add_argument_group("run")
    run.add_argument(
        "--jobs",
        "-j",
        type=int,
        default=DEFAULT_JOBS,
        metavar="N",
        help=f"files at once (default {DEFAULT_JOBS})",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run that was killed; given from the start, repeating the command does "
        "only what failed, is new or has changed",
    )
    run.add_argument("--errors", metavar="FILE", help="write a CSV of the inputs that failed")
    add_common(run)


def run(options: argparse.Namespace) -> int:
    from vggish.audio.inputs import find_inputs

    names = input_names(options, "embed")
    if options.jobs < 1:
        raise OptionError(f"--jobs must be at least 1. Received: {options.jobs}")
    inputs = find_inputs(names)
    _check_outputs(options, inputs)
    with contextlib.ExitStack() as stack:
        destination = _destination(options, names, stack)
        labels = _labels(options, destination)

        from vggish.batch.embed import BatchReport, Failure, embed_batch

        extractor = make_extractor(
            options,
            precision=options.precision,
            device=options.device,
            values=options.values,
            hop_seconds=options.hop,
            tail=options.tail,
            resampler=options.resampler,
        )
        shown = sys.stderr.isatty() and not options.quiet
        bar = stack.enter_context(ProgressBar(inputs.items)) if shown else None
        started = time.perf_counter()
        report = BatchReport()
        try:
            embed_batch(
                extractor,
                inputs.items,
                destination,
                jobs=options.jobs,
                resume=options.resume,
                labels=labels,
                observer=bar,
                report=report,
            )
        except BaseException as error:
            if bar is not None:
                bar.stop()
            _tell_failures(options, report)
            if isinstance(error, KeyboardInterrupt) and options.out != STDOUT:
                error.args = ("; the same command with --resume goes on",)
            raise
        elapsed = time.perf_counter() - started
        if bar is not None:
            bar.stop()
        if options.out == STDOUT and destination.file is not None and destination.file.exists():
            send_to_stdout(destination.file)
    for directory, reason in inputs.unreadable:
        unsearched = AudioError(f"cannot search {directory}: {reason}")
        report.failures.append(Failure(directory, unsearched))
    _tell_failures(options, report)
    embedder = extractor.embedder.provenance
    _tell(options, inputs, destination, report, elapsed, embedder)
    return EXIT_SOME_FAILED if report.failures else EXIT_OK


def _check_outputs(options: argparse.Namespace, inputs: Inputs) -> None:
    """Raise before the work if what is to be written is also read, or cannot be written."""
    read = [item.source for item in inputs.items]
    read += [p for p in (options.files_from, options.labels, options.label_names) if p is not None]
    refuse_overwriting([("-o", options.out), ("--errors", options.errors)], read)
    if options.errors is not None:
        check_writable(Path(options.errors), "--errors")


def _destination(
    options: argparse.Namespace, names: Sequence[str], stack: contextlib.ExitStack
) -> Destination:
    from vggish.batch.sinks import Destination
    from vggish.frames.files import format_of

    refuse_both_outputs(options)
    if options.out is None:
        places = [name if name == "-" else os.path.abspath(name) for name in names]
        run_key = hashlib.sha256(os.fsencode("\0".join(places))).hexdigest()[:8]
        directory = Path(options.out_dir or ".")
        if directory.exists() and not directory.is_dir():
            raise OptionError(f"--out-dir {directory} is a file, not a directory")
        return Destination(options.format or "npz", directory, run_key=run_key)
    if options.out == STDOUT:
        if options.format is None:
            raise OptionError("-o - needs --format, for there is no suffix to tell it")
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="audiotag-"))
        return Destination(options.format, file=Path(scratch) / f"out.{options.format}")
    out = Path(os.path.realpath(options.out) if os.path.islink(options.out) else options.out)
    if out.is_dir() or options.out.endswith(("/", os.sep)):
        raise OptionError(f"-o {options.out} is a directory; use --out-dir for one file per input")
    if out.exists() and not out.is_file():
        raise OptionError(f"-o {out} is no regular file; use -o - and redirect it there")
    if out.parent.exists() and not out.parent.is_dir():
        raise OptionError(f"-o {out}: {out.parent} is a file, not a directory")
    return Destination(format_of(out, options.format), file=out)


def _labels(
    options: argparse.Namespace, destination: Destination
) -> dict[str, tuple[int, ...]] | None:
    if options.labels is None:
        if options.label_names is not None:
            raise OptionError("--label-names explains the labels of --labels, which is missing")
        return None
    if destination.file_format not in ("tfrecord", "jsonl"):
        raise OptionError(
            f"{destination.file_format} files hold no labels; use --format tfrecord or jsonl"
        )
    from classifier.frame_data.clip_labels import read_clip_labels
    from classifier.labels import read_labels

    names = (
        None if options.label_names is None else read_labels(Path(options.label_names)).indices()
    )
    return read_clip_labels(Path(options.labels), names)


def _tell_failures(options: argparse.Namespace, report: BatchReport) -> None:
    """Say which inputs failed and why, on stderr and in the file that `--errors` names."""
    for failure in report.failures:
        if options.debug:
            traceback.print_exception(failure.error)
        print(_printable(f"audiotag: error: {_failure_text(failure)}"), file=sys.stderr)
    if options.errors is not None:
        _write_errors(Path(options.errors), report)


def _tell(
    options: argparse.Namespace,
    inputs: Inputs,
    destination: Destination,
    report: BatchReport,
    elapsed: float,
    embedder: Mapping[str, str],
) -> None:
    """Say what was done, where it is, and what was odd."""
    if options.quiet:
        return
    for source, warning in report.warnings:
        print(_printable(f"audiotag: warning: {source}: {warning}"), file=sys.stderr)
    notes = []
    if inputs.skipped:
        few = ", ".join(inputs.skipped[:3]) + (", ..." if len(inputs.skipped) > 3 else "")
        notes.append(f"{_count(len(inputs.skipped), 'file')} not taken for sound: {few}")
    if inputs.repeated:
        notes.append(f"{_count(len(inputs.repeated), 'input')} named more than once, done once")
    if report.unlabelled:
        few = ", ".join(report.unlabelled[:3]) + (", ..." if len(report.unlabelled) > 3 else "")
        notes.append(f"{_count(len(report.unlabelled), 'clip')} not in {options.labels}: {few}")
    for note in notes:
        print(_printable(f"audiotag: note: {note}"), file=sys.stderr)
    out = sys.stderr if options.out == STDOUT else sys.stdout
    for line in _summary(options, inputs, destination, report, elapsed, embedder):
        print(_printable(line), file=out)


def _summary(
    options: argparse.Namespace,
    inputs: Inputs,
    destination: Destination,
    report: BatchReport,
    elapsed: float,
    embedder: Mapping[str, str],
) -> Iterator[str]:
    kind = "uint8" if options.values == "uint8" else f"float32 ({options.values})"
    what = f"{_count(report.n_frames, 'frame')} [128] {kind}, {report.seconds:.1f} s of sound"
    speed = f"{report.seconds / max(elapsed, 1e-9):.0f}x real time"
    method = f"{embedder['name']} {embedder['precision']}, {speed}"
    failed = {failure.source for failure in report.failures}
    if destination.file is None:
        written = [item for item in inputs.items if item.source not in failed]
        if len(written) <= MAX_OUTPUTS_NAMED:
            for item in written:
                yield f"{item.source} -> {destination.path(item)}"
        else:
            yield f"{_count(len(written), 'file')} -> {destination.directory}{os.sep}"
    elif report.n_clips + report.n_resumed:
        where = "standard output" if options.out == STDOUT else str(destination.file)
        yield f"{_count(report.n_clips + report.n_resumed, 'clip')} -> {where}"
    if report.n_clips:
        yield f"{what}  ({method})"
    if report.n_resumed:
        yield f"{_count(report.n_resumed, 'input')} done by an earlier run"
    if failed:
        yield f"{_count(len(failed), 'input')} of {len(inputs.items)} failed"


def _failure_text(failure: Failure) -> str:
    from vggish.audio.sources import source_name

    text, source = explain(failure.error), source_name(failure.source)
    return text if source in text else f"{source}: {text}"


def _write_errors(path: Path, report: BatchReport) -> None:
    """Write the CSV of the inputs that failed."""
    from vggish.common.files import atomic_write

    try:
        with atomic_write(path) as file:
            text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(["input", "error", "message"])
            for failure in report.failures:
                kind = type(failure.error).__name__
                rows.writerow([failure.source, kind, _failure_text(failure)])
            text.flush()
            text.detach()
    except OSError as error:
        raise FrameFileError(f"cannot write --errors {path}: {error.strerror or error}") from error
