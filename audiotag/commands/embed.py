"""`audiotag embed`: write the frames of audio files."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiotag.commands.options import DEVICE, EMBEDDER, InputOptions, add_options, option
from audiotag.terminal import outputs
from audiotag.terminal.bars import ClipBar
from audiotag.terminal.signals import EXIT_OK, EXIT_SOME_FAILED
from audiotag.terminal.streams import STDOUT, explain, log, send_to_stdout
from classifier.frame_data.clip_labels import read_clip_labels
from classifier.labels import read_labels
from vggish.api import load_extractor
from vggish.audio.inputs import Inputs, find_inputs
from vggish.audio.sources import source_name
from vggish.batch.embed import BatchReport, Failure, embed_batch
from vggish.batch.sinks import Destination
from vggish.common import choices
from vggish.common.csv_table import csv_text
from vggish.common.files import atomic_write
from vggish.common.wording import count, prefix_location, printable
from vggish.embedders.choice import find_embedder
from vggish.errors import AudioError, FrameFileError, OptionError, write_errors_as
from vggish.frames.files import format_of
from vggish.params import PATCH_SECONDS

_EPILOG = """\
examples:
  audiotag embed clip.wav                       writes clip.npz here
  audiotag embed clips/ --out-dir frames        one .npz each, in the same tree
  audiotag embed 'data/**/*.flac' -o all.csv    one file for all clips
  audiotag embed clips/ -o all.tfrecord --hop 1
                                                a frame per second, as AudioSet
  audiotag embed clips/ --out-dir frames --resume
                                                continue a run that was killed
  ffmpeg -i film.mkv -f wav - | audiotag embed - -o film.csv

exit status:
  0 all inputs embedded    1 some inputs failed    2 nothing was embedded
  130 interrupted
"""


@dataclass(frozen=True, kw_only=True)
class Options(InputOptions):
    """The options of `audiotag embed`."""

    out: str | None = option(
        "one file for all clips; its suffix sets the format",
        "FILE",
        flags="-o --out",
        group="output",
    )
    out_dir: str | None = option(
        "directory for one file per input, in the same tree (default: the current directory)", "DIR"
    )
    format: choices.FrameFormat | None = option(
        "format of the output (default: the suffix of -o, or npz)"
    )
    values: choices.Values = option(
        "quantised frames, float32 after PCA, or the raw output of VGGish (default: uint8)",
        default="uint8",
    )
    labels: str | None = option(
        "labels to store in tfrecord and jsonl, with the columns clip, labels", "CSV"
    )
    label_names: str | None = option(
        "class_labels_indices.csv, if the labels are names or AudioSet ids", "CSV"
    )
    embedder: choices.EmbedderName | None = option(group="method", **EMBEDDER)
    hop: float = option(
        f"time between frames, in seconds (default: {PATCH_SECONDS}; AudioSet has 1)",
        "SECONDS",
        default=PATCH_SECONDS,
    )
    tail: choices.Tail = option(
        "pad the last patch with silence, or drop it (default: pad)", default="pad"
    )
    resampler: choices.ResamplerName = option(
        "resampler to 16 kHz; resampy is the slow one of the reference (default: soxr)",
        default="soxr",
    )
    precision: choices.Precision | None = option(
        "precision of VGGish: int8 is two to three times as fast and slightly different; "
        "mini has one only (default: float32)"
    )
    device: choices.Device = option(**DEVICE)
    jobs: int = option(
        "number of files to embed at once (default: 2)",
        "N",
        flags="--jobs -j",
        group="run",
        default=2,
    )
    resume: bool = option(
        "continue a run that was killed: embed only inputs that failed, are new or changed"
    )
    errors: str | None = option("write a CSV of the inputs that failed", "FILE")

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise OptionError(f"--jobs must be at least 1. Received: {self.jobs}")
        outputs.check_one_destination(self.out, self.out_dir)
        if self.out == STDOUT and self.format is None:
            raise OptionError("-o - needs --format, as there is no suffix to take it from")
        if self.label_names is not None and self.labels is None:
            raise OptionError("--label-names explains the labels of --labels, which is missing")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audiotag embed`."""
    parser.usage = "audiotag embed INPUT ... [options]"
    parser.description = "Write AudioSet-compatible frames of audio: 128 numbers for each 0.96 s."
    parser.epilog = _EPILOG
    add_options(parser, Options)


def run(arguments: argparse.Namespace) -> int:
    """Embed the inputs and log a summary."""
    options = Options(**vars(arguments))
    names = options.input_names("embed")
    inputs = find_inputs(names)
    _check_outputs(options, inputs)
    with contextlib.ExitStack() as stack:
        destination = _destination(options, names, stack)
        labels = _clip_labels(options, destination)
        choice = find_embedder(options.embedder or "auto", options.precision)
        extractor = load_extractor(
            choice.name,
            precision=choice.precision,
            device=options.device,
            values=options.values,
            hop_seconds=options.hop,
            tail=options.tail,
            resampler=options.resampler,
        )
        if choice.reason:
            options.log(choice.reason)
        report, started = BatchReport(), time.perf_counter()
        try:
            with ClipBar(inputs.items, "embedding", quiet=options.quiet) as bar:
                embed_batch(
                    extractor,
                    inputs.items,
                    destination,
                    jobs=options.jobs,
                    resume=options.resume,
                    labels=labels,
                    stream=options.stream,
                    observer=bar,
                    report=report,
                )
        except BaseException as error:
            _report_failures(options, report)
            if isinstance(error, KeyboardInterrupt) and options.out != STDOUT:
                error.args = ("; the same command with --resume continues",)
            raise
        elapsed = max(time.perf_counter() - started, 1e-9)
        if options.out == STDOUT and destination.file is not None and destination.file.exists():
            send_to_stdout(destination.file)
    for directory, reason in inputs.unreadable:
        unsearched = AudioError(f"cannot search {directory}: {reason}")
        report.failures.append(Failure(directory, unsearched))
    _report_failures(options, report)
    _log_warnings(options, inputs, report)
    out = sys.stderr if options.out == STDOUT else sys.stdout
    if not options.quiet:
        embedder = extractor.embedder.provenance
        speed = (
            f"{embedder['name']} {embedder['precision']}, {report.seconds / elapsed:.0f}x real time"
        )
        for line in _summary(options, inputs, destination, report, speed):
            print(printable(line), file=out)
    return EXIT_SOME_FAILED if report.failures else EXIT_OK


def _check_outputs(options: Options, inputs: Inputs) -> None:
    """Raise before the work if an output is also an input, or cannot be written."""
    read = [item.source for item in inputs.items]
    read += [p for p in (options.files_from, options.labels, options.label_names) if p is not None]
    outputs.refuse_overwriting([("-o", options.out), ("--errors", options.errors)], read)
    if options.errors is not None:
        outputs.check_writable(Path(options.errors), "--errors")


def _destination(
    options: Options, names: Sequence[str], stack: contextlib.ExitStack
) -> Destination:
    if options.out is None:
        # The same inputs find the journal of their earlier run.
        places = [name if name == STDOUT else os.path.abspath(name) for name in names]
        run_key = hashlib.sha256(os.fsencode("\0".join(places))).hexdigest()[:8]
        directory = Path(options.out_dir or ".")
        if directory.exists() and not directory.is_dir():
            raise OptionError(f"--out-dir {directory} is a file, not a directory")
        return Destination(options.format or "npz", directory, run_key=run_key)
    if options.out == STDOUT:
        assert options.format is not None
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="audiotag-"))
        return Destination(options.format, file=Path(scratch) / f"out.{options.format}")
    out = Path(os.path.realpath(options.out) if os.path.islink(options.out) else options.out)
    if out.is_dir() or options.out.endswith(("/", os.sep)):
        raise OptionError(f"-o {options.out} is a directory; use --out-dir for one file per input")
    if out.exists() and not out.is_file():
        raise OptionError(f"-o {out} is not a regular file; use -o - and redirect the output")
    if out.parent.exists() and not out.parent.is_dir():
        raise OptionError(f"-o {out}: {out.parent} is a file, not a directory")
    return Destination(format_of(out, options.format), file=out)


def _clip_labels(options: Options, destination: Destination) -> dict[str, tuple[int, ...]] | None:
    if options.labels is None:
        return None
    if destination.file_format not in ("tfrecord", "jsonl"):
        raise OptionError(
            f"{destination.file_format} files hold no labels; use --format tfrecord or jsonl"
        )
    names = options.label_names
    indices = None if names is None else read_labels(Path(names)).indices()
    return read_clip_labels(Path(options.labels), indices)


def _report_failures(options: Options, report: BatchReport) -> None:
    """Log which inputs failed and why, and write them to --errors."""
    rows = []
    for failure in report.failures:
        if options.debug:
            traceback.print_exception(failure.error)
        text = prefix_location(source_name(failure.source), explain(failure.error))
        log(f"error: {text}")
        rows.append((failure.source, type(failure.error).__name__, text))
    if options.errors is not None:
        table = csv_text(("input", "error", "message"), *rows)
        with (
            write_errors_as(FrameFileError, f"--errors {options.errors}"),
            atomic_write(Path(options.errors)) as file,
        ):
            file.write(table.encode("utf-8", "backslashreplace"))


def _log_warnings(options: Options, inputs: Inputs, report: BatchReport) -> None:
    for source, warning in report.warnings:
        options.log(f"warning: {source}: {warning}")
    for names, noun, what in (
        (inputs.skipped, "file", "skipped as not audio"),
        (report.unlabelled, "clip", f"not in {options.labels}"),
    ):
        if names:
            few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            options.log(f"note: {count(len(names), noun)} {what}: {few}")
    if inputs.repeated:
        options.log(f"note: {count(len(inputs.repeated), 'input')} named repeatedly, embedded once")


def _summary(
    options: Options, inputs: Inputs, destination: Destination, report: BatchReport, speed: str
) -> Iterator[str]:
    """Lines: the outputs, what they hold, and how many inputs were resumed or failed."""
    failed = {failure.source for failure in report.failures}
    n_written = report.n_clips + report.n_resumed
    if destination.file is None:
        items = [item for item in inputs.items if item.source not in failed]
        written = [(item.source, destination.path(item)) for item in items]
        yield from outputs.outputs_summary(written, destination.directory)
    elif n_written:
        where = "standard output" if options.out == STDOUT else str(destination.file)
        yield f"{count(n_written, 'clip')} -> {where}"
    if report.n_clips:
        kind = "uint8" if options.values == "uint8" else f"float32 ({options.values})"
        frames = f"{count(report.n_frames, 'frame')} [128] {kind}"
        yield f"{frames}, {report.seconds:.1f} s of audio  ({speed})"
    if report.n_resumed:
        yield f"{count(report.n_resumed, 'input')} done by an earlier run"
    if failed:
        yield f"{count(len(failed), 'input')} of {len(inputs.items)} failed"
