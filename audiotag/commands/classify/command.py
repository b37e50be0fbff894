"""`audiotag classify`: tag audio files, streams and live audio."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag.commands.classify.live import run_live
from audiotag.commands.classify.taggers import local_tagger, read_source, remote_tagger
from audiotag.commands.classify.writer import (
    SharedOutputError,
    draw_plot,
    open_tag_writer,
    plot_path,
    text_path,
)
from audiotag.commands.options import (
    add_common,
    add_device,
    add_force,
    add_inputs,
    input_names,
    option_name,
)
from audiotag.terminal.bars import ProgressBar
from audiotag.terminal.outputs import check_writable, refuse_both_outputs, refuse_overwriting
from audiotag.terminal.signals import EXIT_OK, EXIT_SOME_FAILED
from audiotag.terminal.stderr import print_status, warn_source
from audiotag.terminal.stdout import STDOUT, require_stdout
from vggish.common.choices import EMBEDDERS, PRECISIONS
from vggish.common.wording import count as _count, printable as _printable
from vggish.errors import AudioError, OptionError, ServiceError, ServiceUnreachableError

if TYPE_CHECKING:
    from audiotag.commands.classify.taggers import Listen
    from classifier.output.formats import TagFormat
    from classifier.tags.types import ClipTags
    from vggish.audio.inputs import Inputs, Item


# --- audiotag classify -------------------------------------------------------------------


_CLASSIFY_EPILOG = """\
examples:
  audiotag classify clip.wav                    what is heard, and when
  audiotag classify sounds/ --csv -o tags.csv   file,label,mid,index,score
  audiotag classify clip.wav --json --frames    what is heard in each 0.96 s
  audiotag classify clip.wav -o clip.srt        subtitles; --audacity, --raven: other tracks
  audiotag classify sounds/ --srt --out-dir d   one file each, in the same tree
  audiotag classify clip.wav --plot clip.png    waveform, log-mel and tags over time
  audiotag classify clip.wav --labels Dog --labels Cat
  audiotag classify sounds/ --model runs/mine   with a head of your own
  audiotag classify --live                      the microphone, until Ctrl-C
  audiotag classify sounds/ --server http://tags.example:8000
  ffmpeg -i film.mkv -f wav - | audiotag classify -

A sound longer than the clips that the model was trained on (10 s for AudioSet's) is listened to
in windows of that length; a tag's score is that of the window where it is heard best.
The times are those where a tag has at least half of its highest score.

exit status:
  0 all classified    1 some inputs failed    2 nothing could be done
  130 interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "audiotag classify INPUT ... [options]"
    parser.description = "Say what is heard in sounds, and when."
    parser.epilog = _CLASSIFY_EPILOG
    add_inputs(parser)
    live = parser.add_argument_group("microphone")
    live.add_argument(
        "--live", action="store_true", help="listen to the microphone: a line each 0.96 s"
    )
    live.add_argument(
        "--live-device", metavar="NAME", help="which one, by number or words of its name"
    )
    how = parser.add_argument_group("method")
    how.add_argument(
        "--model",
        metavar="BUNDLE",
        help="a bundle, a run, or one that comes with audiotag (default: audioset)",
    )
    how.add_argument(
        "--embedder",
        choices=EMBEDDERS,
        default="auto",
        help="auto (default) takes the one that the model is made for, and VGGish before mini",
    )
    how.add_argument("--precision", choices=PRECISIONS, help="of VGGish (default: float32)")
    add_device(how)
    add_force(how)
    how.add_argument(
        "--server", metavar="URL",
        help="let an audiotag service do it; --model names one of its models. The sounds are "
        "sent there, with a key from --api-key-file or AUDIOTAG_API_KEY",
    )  # fmt: skip
    how.add_argument("--api-key-file", metavar="FILE", help="holds the key for --server")
    what = parser.add_argument_group("what is told")
    what.add_argument(
        "--top-k", type=int, default=5, metavar="K", help="at most so many tags (default 5)"
    )
    what.add_argument(
        "--threshold", type=float, default=0.0, metavar="X",
        help="only tags with at least this score, from 0 to 1 (default 0)",
    )  # fmt: skip
    what.add_argument(
        "--labels", action="append", metavar="NAME",
        help="only this class, by name or AudioSet id; may be repeated",
    )  # fmt: skip
    what.add_argument(
        "--exclude-labels", action="append", metavar="NAME", help="not this class; may be repeated"
    )
    what.add_argument(
        "--frames", action="store_true", help="in JSON and CSV: the tags of each 0.96 s"
    )
    what.add_argument(
        "--segments", action="store_true",
        help="when each tag is heard: in JSON besides, in CSV and tables a row a span",
    )  # fmt: skip
    out = parser.add_argument_group("output")
    out.add_argument(
        "-o", "--out", metavar="FILE",
        help="write there (.csv, .json, .jsonl, .srt, .selections.txt, .txt)",
    )  # fmt: skip
    out.add_argument(
        "--out-dir", metavar="DIR", help="one file per input, in the tree of the inputs"
    )
    kind = out.add_mutually_exclusive_group()
    kind.add_argument("--json", action="store_true", help="JSON; of several files, a line each")
    kind.add_argument("--csv", action="store_true", help="CSV, a row a tag")
    kind.add_argument("--srt", action="store_true", help="subtitles, for players")
    kind.add_argument("--audacity", action="store_true", help="an Audacity label track")
    kind.add_argument("--raven", action="store_true", help="a Raven Pro selection table")
    out.add_argument(
        "--plot", metavar="PNG",
        help="draw it, too (.png, .svg, .pdf); of several inputs, a directory for the pictures",
    )  # fmt: skip
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from classifier.tags.choice import Choice
    from vggish.audio.inputs import find_inputs

    Choice(options.top_k, options.threshold)
    if options.live:
        return run_live(options)
    if options.out in ("/dev/stdout", "/dev/fd/1"):
        options.out = STDOUT  # where that leads to a file, it is not to be replaced
    names = input_names(options, "classify")
    content = _classify_content(options)
    inputs = find_inputs(names)
    _check_classify_outputs(options, inputs, content)
    with contextlib.ExitStack() as stack:
        listen = (local_tagger if options.server is None else remote_tagger)(
            options, content, stack
        )
        failures = _classify_each(options, listen, inputs, content)
    for directory, reason in inputs.unreadable:
        print(_printable(f"audiotag: error: cannot search {directory}: {reason}"), file=sys.stderr)
    if inputs.skipped:
        print_status(options, f"note: {_count(len(inputs.skipped), 'file')} not taken for sound")
    return EXIT_SOME_FAILED if failures or inputs.unreadable else EXIT_OK


def _classify_content(options: argparse.Namespace) -> TagFormat:
    """What is written of each sound: as an option says, or the suffix of -o."""
    from classifier.output.formats import SUFFIXES, TagFormat, format_of

    found = next((kind for kind in SUFFIXES if getattr(options, kind, False)), None)
    if found is None:
        found = "table" if options.out is None else format_of(options.out)
    if options.frames and found not in ("json", "csv"):
        raise OptionError("--frames needs --json or --csv; the table says when each tag is heard")
    if options.frames and options.segments and found == "csv":
        raise OptionError("a CSV has rows of --frames or of --segments; --json holds both")
    for option, needed in (("live_device", "live"), ("api_key_file", "server")):
        if getattr(options, option) is not None and not getattr(options, needed):
            raise OptionError(f"{option_name(option)} is for --{needed}, which is missing")
    return TagFormat(found, options.frames, options.segments)


def _check_classify_outputs(
    options: argparse.Namespace, inputs: Inputs, content: TagFormat
) -> None:
    """Raise before the work if what is to be written cannot be, or would replace an input."""
    from classifier.output.formats import SINGLE_CLIP_TRACKS

    n_sounds, out = len(inputs.items), options.out
    refuse_both_outputs(options)
    if options.out_dir is None:
        if out in (None, STDOUT):
            require_stdout()
        elif out.endswith(("/", os.sep)):
            raise OptionError(f"-o {out} names a directory; use --out-dir for one file per input")
    elif not options.out_dir:
        raise OptionError("--out-dir must name a directory. Received: ''")
    elif os.path.isfile(options.out_dir):
        raise OptionError(f"cannot write --out-dir {options.out_dir}: it is a file")
    if options.out_dir is None and content.file_format in SINGLE_CLIP_TRACKS and n_sounds > 1:
        raise OptionError(
            f"a label track ({content.file_format}) is of one sound, and here are {n_sounds}: use "
            "--out-dir DIR for one each"
        )
    read = [item.source for item in inputs.items]
    read += [] if options.files_from is None else [options.files_from]
    pictures = {item.source: plot_path(options, item, n_sounds) for item in inputs.items}
    outputs: list[tuple[str, str | Path | None]] = [("-o", out)]
    outputs += [("--plot", picture) for picture in pictures.values()]
    if options.out_dir is not None:
        outputs += [("--out-dir", text_path(options, item, content)) for item in inputs.items]
    refuse_overwriting(outputs, read)
    if options.out_dir is not None and not os.path.isdir(options.out_dir):
        check_writable(Path(options.out_dir) / "x", "--out-dir")
    if out not in (None, STDOUT):
        check_writable(Path(out), "-o")
    if options.plot is not None:
        from classifier.reports.figures import check_drawable

        for picture in list(pictures.values())[:1]:
            check_drawable(str(picture))
            check_writable(Path(str(picture)), "--plot")


def _classify_each(
    options: argparse.Namespace, listen: Listen, inputs: Inputs, content: TagFormat
) -> int:
    """Tag each sound, write what is heard and draw it; the number of sounds that failed."""
    n_failed, n_sounds = 0, len(inputs.items)
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(open_tag_writer(options, content, n_sounds))
        shown = sys.stderr.isatty() and not options.quiet
        bar = stack.enter_context(ProgressBar(inputs.items, "listening")) if shown else None
        for n_done, item in enumerate(inputs.items):
            try:
                picture = plot_path(options, item, n_sounds)
                tags = _classify_one(listen, item, picture, write, bar)
            except (AudioError, ServiceError, SharedOutputError) as error:
                is_over = isinstance(error, ServiceUnreachableError)
                if is_over and n_failed == n_done:
                    raise
                n_failed += 1
                if options.debug:
                    traceback.print_exception(error)
                warn_source(item.source, "error", str(error))
                if bar is not None:
                    bar.done(item, skipped=True)
                n_left = n_sounds - n_done - 1
                if is_over and n_left:
                    # The next sound would fare no better; what was heard is written all the same.
                    print(f"audiotag: error: {_count(n_left, 'sound')} not sent", file=sys.stderr)
                    return n_failed + n_left
                continue
            if bar is not None:
                bar.done(item, skipped=False)
            _tell_warnings(options, item, tags, content)
    return n_failed


def _classify_one(
    listen: Listen,
    item: Item,
    picture: Path | None,
    write: Callable[[Item, ClipTags], None],
    bar: ProgressBar | None,
) -> ClipTags:
    """Tag one sound, write what is heard and draw it."""
    source = read_source(item.source) if picture is not None else item.source
    tags = listen(source, None if bar is None else functools.partial(bar.progress, item))
    with contextlib.nullcontext() if bar is None else bar.hidden():
        write(item, tags)
    if picture is not None:
        draw_plot(item, source, tags, picture)
    return tags


def _tell_warnings(
    options: argparse.Namespace, item: Item, tags: ClipTags, content: TagFormat
) -> None:
    from vggish.audio.mono import SILENCE

    told = SILENCE if content.file_format == "table" else None  # the table says it itself
    for warning in () if options.quiet else tags.warnings:
        if warning != told:
            warn_source(item.source, "warning", warning)
