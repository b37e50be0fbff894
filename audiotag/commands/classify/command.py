"""`audiotag classify`: tag audio files, streams and live audio."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import traceback
from collections.abc import Callable
from pathlib import Path

from audiotag.commands.classify.live import run_live
from audiotag.commands.classify.options import Options
from audiotag.commands.classify.taggers import TagFn, local_tagger, read_source, remote_tagger
from audiotag.commands.classify.writer import ClipOutputError, draw_plot, open_tag_writer
from audiotag.commands.options import add_common, add_device, add_force, add_inputs, input_names
from audiotag.terminal.bars import ClipBar
from audiotag.terminal.outputs import Output, check_writable, refuse_overwriting
from audiotag.terminal.signals import EXIT_OK, EXIT_SOME_FAILED
from audiotag.terminal.stderr import log
from audiotag.terminal.stdout import STDOUT, require_stdout
from classifier.output.formats import SINGLE_CLIP_TRACKS
from classifier.reports.figures import check_drawable
from classifier.tags.types import ClipTags
from vggish.audio.inputs import Inputs, Item, find_inputs
from vggish.audio.mono import SILENCE
from vggish.audio.sources import source_name
from vggish.common.choices import EMBEDDERS, PRECISIONS
from vggish.common.wording import count, prefix_location
from vggish.errors import AudioError, OptionError, ServiceError, ServiceUnreachableError

_EPILOG = """\
examples:
  audiotag classify clip.wav                  tags, and when each occurs
  audiotag classify clips/ --csv -o tags.csv  file,label,mid,index,score
  audiotag classify clip.wav --json --frames  the tags of each 0.96 s
  audiotag classify clip.wav -o clip.srt      subtitles; or --audacity, --raven
  audiotag classify clips/ --srt --out-dir d  one file each, in the same tree
  audiotag classify clip.wav --plot clip.png  waveform, log-mel, tags over time
  audiotag classify clip.wav --labels Dog --labels Cat
  audiotag classify clips/ --model runs/mine  with a head that you trained
  audiotag classify --live                    the microphone, until Ctrl-C
  audiotag classify clips/ --server http://tags.example:8000
  ffmpeg -i film.mkv -f wav - | audiotag classify -

A clip that is longer than those the model was trained on (10 s for AudioSet)
is scored in windows of that length; the score of a tag is that of its best
window. A tag occurs where it has at least half of its highest score.

exit status:
  0 all clips classified    1 some inputs failed    2 nothing was classified
  130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audiotag classify`."""
    parser.usage = "audiotag classify INPUT ... [options]"
    parser.description = "Tag audio: which sounds occur in a clip, and when."
    parser.epilog = _EPILOG
    add_inputs(parser)
    live = parser.add_argument_group("microphone")
    live.add_argument(
        "--live", action="store_true", help="tag the microphone, and print a line each 0.96 s"
    )
    live.add_argument(
        "--live-device",
        metavar="NAME",
        help="microphone to use, by its number or words of its name (default: the system's)",
    )
    _add_model_options(parser)
    tags = parser.add_argument_group("tags")
    tags.add_argument(
        "--top-k", type=int, default=5, metavar="K", help="maximum number of tags (default: 5)"
    )
    tags.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="X",
        help="minimum score of a tag, from 0 to 1 (default: 0)",
    )
    tags.add_argument(
        "--labels",
        action="append",
        metavar="NAME",
        help="class to report, by name or AudioSet id; may be repeated (default: all)",
    )
    tags.add_argument(
        "--exclude-labels",
        action="append",
        metavar="NAME",
        help="class to leave out, by name or AudioSet id; may be repeated",
    )
    tags.add_argument(
        "--frames", action="store_true", help="add the tags of each 0.96 s to JSON and CSV"
    )
    tags.add_argument(
        "--segments",
        action="store_true",
        help="report when each tag occurs: a list in JSON, one row per span in CSV and tables",
    )
    _add_output_options(parser)
    add_common(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="BUNDLE",
        help="a bundle, a run, or the name of a built-in model (default: audioset)",
    )
    group.add_argument(
        "--embedder",
        choices=EMBEDDERS,
        default="auto",
        help="network that embeds the audio: auto is the one that the model was trained on, and "
        "VGGish if it was trained on both (default: auto)",
    )
    group.add_argument(
        "--precision", choices=PRECISIONS, help="precision of VGGish (default: float32)"
    )
    add_device(group)
    add_force(group)
    group.add_argument(
        "--server",
        metavar="URL",
        help="send the clips to an audiotag service instead, with the key of --api-key-file or "
        "AUDIOTAG_API_KEY; --model then names one of its models",
    )
    group.add_argument("--api-key-file", metavar="FILE", help="file with the key for --server")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o",
        "--out",
        # A stdout that leads to a file must not be replaced by another file.
        type=lambda name: STDOUT if name in ("/dev/stdout", "/dev/fd/1") else name,
        metavar="FILE",
        help="file to write (.csv, .json, .jsonl, .srt, .selections.txt, .txt; default: print)",
    )
    group.add_argument(
        "--out-dir", metavar="DIR", help="directory for one file per input, in the same tree"
    )
    formats = group.add_mutually_exclusive_group()
    for name, meaning in (
        ("json", "write JSON; for several files, one line each"),
        ("csv", "write CSV, with a row per tag"),
        ("srt", "write subtitles, for players"),
        ("audacity", "write an Audacity label track"),
        ("raven", "write a Raven Pro selection table"),
    ):
        formats.add_argument(
            f"--{name}", dest="file_format", action="store_const", const=name, help=meaning
        )
    group.add_argument(
        "--plot",
        metavar="PNG",
        help="also draw a plot (.png, .svg, .pdf); for several inputs, a directory for the plots",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run `audiotag classify`."""
    return classify(Options(**vars(arguments)))


def classify(options: Options) -> int:
    """Tag the inputs, or the microphone; returns the exit status."""
    if options.live:
        return run_live(options)
    inputs = find_inputs(input_names(options.inputs, options.files_from, "classify"))
    _check_outputs(options, inputs)
    with contextlib.ExitStack() as stack:
        tag = local_tagger(options) if options.server is None else remote_tagger(options, stack)
        n_failed = _classify_each(options, tag, inputs)
    for directory, reason in inputs.unreadable:
        log(f"error: cannot search {directory}: {reason}")
    if inputs.skipped:
        options.log(f"note: {count(len(inputs.skipped), 'file')} skipped as not audio")
    return EXIT_SOME_FAILED if n_failed or inputs.unreadable else EXIT_OK


def _check_outputs(options: Options, inputs: Inputs) -> None:
    """Raise before the work if an output cannot be written, or would replace an input."""
    n_clips, out = len(inputs.items), options.out
    if options.out_dir is None:
        if out in (None, STDOUT):
            require_stdout()
        kind = options.tag_format.file_format
        if kind in SINGLE_CLIP_TRACKS and n_clips > 1:
            raise OptionError(
                f"a label track ({kind}) describes one clip, but there are {n_clips}: use "
                "--out-dir DIR to write one each"
            )
    read = [item.source for item in inputs.items]
    read += [] if options.files_from is None else [options.files_from]
    plots = [options.plot_path(item, n_clips) for item in inputs.items]
    outputs: list[Output] = [("-o", out), *(("--plot", plot) for plot in plots)]
    if options.out_dir is not None:
        outputs += [("--out-dir", options.text_path(item)) for item in inputs.items]
    refuse_overwriting(outputs, read)
    if options.out_dir is not None and not os.path.isdir(options.out_dir):
        check_writable(Path(options.out_dir) / "x", "--out-dir")
    if out is not None and out != STDOUT:
        check_writable(Path(out), "-o")
    if plots[0] is not None:
        check_drawable(str(plots[0]))
        check_writable(plots[0], "--plot")


def _classify_each(options: Options, tag: TagFn, inputs: Inputs) -> int:
    """Tag each clip, write and draw its tags; returns the number of clips that failed."""
    n_failed, n_clips = 0, len(inputs.items)
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(open_tag_writer(options, n_clips))
        bar = stack.enter_context(ClipBar(inputs.items, "tagging", quiet=options.quiet))
        for n_done, item in enumerate(inputs.items):
            try:
                tags = _classify_one(tag, item, options.plot_path(item, n_clips), write, bar)
            except (AudioError, ServiceError, ClipOutputError) as error:
                is_unreachable = isinstance(error, ServiceUnreachableError)
                if is_unreachable and n_failed == n_done:
                    raise
                n_failed += 1
                if options.debug:
                    traceback.print_exception(error)
                log(f"error: {prefix_location(source_name(item.source), str(error))}")
                bar.done(item, skipped=True)
                n_left = n_clips - n_done - 1
                if is_unreachable and n_left:
                    # The next clip would fail, too. The tags so far are still written.
                    log(f"error: {count(n_left, 'clip')} not sent")
                    return n_failed + n_left
            else:
                bar.done(item, skipped=False)
                for warning in tags.warnings:
                    # The table itself shows silence.
                    if warning != SILENCE or options.tag_format.file_format != "table":
                        options.log(
                            f"warning: {prefix_location(source_name(item.source), warning)}"
                        )
    return n_failed


def _classify_one(
    tag: TagFn,
    item: Item,
    plot: Path | None,
    write: Callable[[Item, ClipTags], None],
    bar: ClipBar,
) -> ClipTags:
    source = item.source if plot is None else read_source(item.source)
    tags = tag(source, functools.partial(bar.progress, item))
    with bar.hidden():
        write(item, tags)
    if plot is not None:
        draw_plot(item, source, tags, plot)
    return tags
