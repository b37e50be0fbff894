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
from audiotag.commands.classify.taggers import TagFn, local_tagger, read_source
from audiotag.commands.classify.writer import ClipOutputError, draw_plot, open_tag_writer
from audiotag.commands.options import add_options
from audiotag.terminal.bars import ClipBar
from audiotag.terminal.outputs import Output, check_writable, refuse_overwriting
from audiotag.terminal.signals import EXIT_OK, EXIT_SOME_FAILED
from audiotag.terminal.streams import STDOUT, log, require_stdout
from classifier.output.formats import SINGLE_CLIP_TRACKS
from classifier.reports.figures import check_drawable
from classifier.tags.types import ClipTags
from vggish.audio.inputs import Inputs, Item, find_inputs
from vggish.audio.mono import SILENCE
from vggish.audio.sources import source_name
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
    add_options(parser, Options, common_group="options")


def run(arguments: argparse.Namespace) -> int:
    """Tag the inputs, or the microphone."""
    options = Options(**vars(arguments))
    if options.live:
        return run_live(options)
    inputs = find_inputs(options.input_names("classify"))
    _check_outputs(options, inputs)
    with contextlib.ExitStack() as stack:
        if options.server is None:
            tag = local_tagger(options)
        else:
            # httpx takes 60 ms to import.
            from audiotag.commands.classify.remote import remote_tagger

            tag = remote_tagger(options, stack)
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
                bar.finished(item, None)
                n_left = n_clips - n_done - 1
                if is_unreachable and n_left:
                    # The next clip would fail, too. The tags so far are still written.
                    log(f"error: {count(n_left, 'clip')} not sent")
                    return n_failed + n_left
            else:
                bar.finished(item, tags)
                for warning in tags.warnings:
                    # The table itself shows silence.
                    if warning != SILENCE or options.tag_format.file_format != "table":
                        options.log(
                            f"warning: {prefix_location(source_name(item.source), warning)}"
                        )
    return n_failed


def _classify_one(
    tag: TagFn, item: Item, plot: Path | None, write: Callable[[Item, ClipTags], None], bar: ClipBar
) -> ClipTags:
    source = item.source if plot is None else read_source(item.source)
    tags = tag(source, functools.partial(bar.progress, item))
    with bar.hidden():
        write(item, tags)
    if plot is not None:
        draw_plot(item, source, tags, plot)
    return tags
