"""Write the tags of each clip to stdout, to one file, or to a file per clip."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from audiotag.commands.classify.options import Options
from audiotag.commands.classify.taggers import AudioSource
from audiotag.terminal.outputs import outputs_summary, text_output
from audiotag.terminal.streams import STDOUT, discard_stdout, print_result
from classifier.output.formats import TagFormatter
from classifier.output.plot import plot_tags
from classifier.tags.types import ClipTags
from vggish.audio.inputs import Item
from vggish.audio.sources import source_name
from vggish.audio.stream import load_audio, open_audio
from vggish.common.wording import as_text, printable
from vggish.errors import AudioError, FrameFileError

WriteFn = Callable[[Item, ClipTags], None]


def draw_plot(item: Item, source: AudioSource, tags: ClipTags, path: Path) -> None:
    """Draw the plot of a clip."""
    title = printable(source_name(item.source)).replace("\n", " ")
    with _clip_errors():
        tracks = getattr(tags, "tracks", None)
        plot_tags(load_audio(source), tags, path, title=title, tracks=tracks)


@contextlib.contextmanager
def open_tag_writer(options: Options, n_clips: int) -> Iterator[WriteFn]:
    """Open what writes the tags of each clip: -o, standard output, or files below --out-dir."""
    if options.out_dir is not None:
        with _file_per_clip(options, options.out_dir) as write:
            yield write
        return
    is_file = options.out not in (None, STDOUT)
    is_jsonl = is_file and str(options.out).lower().endswith(".jsonl")
    n_written = 0
    with contextlib.suppress(_NothingToWrite), text_output(options.out) as (write_text, style):
        # One JSON object is indented, unless it is a line of a .jsonl file.
        formatter = TagFormatter(
            options.tag_format, style, 0 if is_jsonl else n_clips, _sample_rate_hz
        )
        write_text(_header(options, formatter))

        def write(item: Item, tags: ClipTags) -> None:
            nonlocal n_written
            n_written += 1
            try:
                write_text(_formatted(formatter, item, tags))
            except BrokenPipeError:
                if options.plot is None:
                    raise
                discard_stdout()  # the plots are still drawn

        yield write
        if is_file and not n_written:
            raise _NothingToWrite


@contextlib.contextmanager
def _file_per_clip(options: Options, directory: str) -> Iterator[WriteFn]:
    written: list[tuple[str, Path]] = []

    def write(item: Item, tags: ClipTags) -> None:
        path = options.text_path(item)
        with _clip_errors(), text_output(str(path)) as (write_text, style):
            formatter = TagFormatter(options.tag_format, style, 1, _sample_rate_hz)
            write_text(_header(options, formatter) + _formatted(formatter, item, tags))
        written.append((item.source, path))

    try:
        yield write
    finally:
        for line in [] if options.quiet else outputs_summary(written, directory):
            print_result(printable(line))


def _header(options: Options, formatter: TagFormatter) -> str:
    return "\ufeff" * options.bom + formatter.header()


def _formatted(formatter: TagFormatter, item: Item, tags: ClipTags) -> str:
    return formatter.format(item.source, as_text(source_name(item.source)), tags)


class _NothingToWrite(Exception):  # noqa: N818 - never leaves this module
    """No clip was tagged: an existing file is kept as it is."""


class ClipOutputError(FrameFileError):
    """An output of one clip cannot be written; that of the next one may well be."""


@contextlib.contextmanager
def _clip_errors() -> Iterator[None]:
    try:
        yield
    except FrameFileError as error:
        raise ClipOutputError(str(error)) from error


def _sample_rate_hz(path: str) -> float | None:
    """The sample rate of an audio file; None if it is unknown."""
    if path == STDOUT:
        return None
    try:
        with open_audio(path) as stream:
            return stream.sample_rate_hz
    except AudioError:
        return None
