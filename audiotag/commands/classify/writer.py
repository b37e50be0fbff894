"""Write the tags of each clip to stdout, to one file, or to a file per clip."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag.terminal.outputs import report_outputs
from audiotag.terminal.stdout import STDOUT, discard_stdout, text_output
from vggish.common.wording import printable as _printable
from vggish.errors import AudioError, FrameFileError, OptionError

if TYPE_CHECKING:
    from audiotag.commands.classify.taggers import Sound
    from classifier.output.formats import TagFormat
    from classifier.tags.types import ClipTags
    from vggish.audio.inputs import Item


def text_path(options: argparse.Namespace, item: Item, content: TagFormat) -> Path:
    """Where with --out-dir the text of a sound goes."""
    from classifier.output.formats import SUFFIXES

    return Path(options.out_dir) / f"{item.stem}{SUFFIXES[content.file_format]}"


def plot_path(options: argparse.Namespace, item: Item, n_sounds: int) -> Path | None:
    """Where the picture of a sound goes; None if there is to be none."""
    if options.plot is None:
        return None
    if options.plot == STDOUT:
        raise OptionError("a picture is not written to standard output: --plot needs a name")
    is_directory = options.plot.endswith(("/", os.sep)) or os.path.isdir(options.plot)
    if is_directory:
        return Path(options.plot) / f"{item.stem}.png"
    if n_sounds > 1:
        raise OptionError(
            f"--plot {options.plot} is one picture, and here are {n_sounds} sounds: name a "
            "directory, as --plot pictures/"
        )
    return Path(options.plot)


def draw_plot(item: Item, source: Sound, tags: ClipTags, picture: Path) -> None:
    from classifier.output.plot import plot_tags
    from vggish.audio.sources import source_name
    from vggish.audio.stream import load_audio

    title = _printable(source_name(item.source)).replace("\n", " ")
    tracks = getattr(tags, "tracks", None)
    with _of_one_sound():
        plot_tags(load_audio(source), tags, picture, title=title, tracks=tracks)


@contextlib.contextmanager
def open_tag_writer(
    options: argparse.Namespace, content: TagFormat, n_sounds: int
) -> Iterator[Callable[[Item, ClipTags], None]]:
    """What writes the tags of each sound as they come: to -o, standard output, or --out-dir."""
    from classifier.output.formats import TagFormatter
    from vggish.audio.sources import source_name
    from vggish.common.wording import as_text

    def told(text: TagFormatter, item: Item, tags: ClipTags) -> str:
        return text.format(as_text(item.source), as_text(source_name(item.source)), tags)

    if options.out_dir is None:
        is_file = options.out not in (None, STDOUT)
        n_in_one = 0 if is_file and options.out.lower().endswith(".jsonl") else n_sounds
        n_written = 0
        with contextlib.suppress(_NothingToWrite), text_output(options.out) as (write, look):
            text = TagFormatter(content, look, n_in_one, _sample_rate_hz)
            write(text.header())

            def write_on(item: Item, tags: ClipTags) -> None:
                nonlocal n_written
                n_written += 1
                try:
                    write(told(text, item, tags))
                except BrokenPipeError:
                    if options.plot is None:
                        raise
                    discard_stdout()  # the pictures are wanted all the same

            yield write_on
            if is_file and not n_written:
                raise _NothingToWrite  # what the file holds from before is better than nothing
        return
    written: list[tuple[str, Path]] = []

    def write_file(item: Item, tags: ClipTags) -> None:
        path = text_path(options, item, content)
        with _of_one_sound(), text_output(str(path)) as (write, look):
            text = TagFormatter(content, look, 1, _sample_rate_hz)
            write(text.header() + told(text, item, tags))
        written.append((item.source, path))

    try:
        yield write_file
    finally:
        if not options.quiet:
            report_outputs(written, options.out_dir)


class _NothingToWrite(Exception):  # noqa: N818 - it is none that anybody sees
    """Not one sound could be heard."""


class SharedOutputError(FrameFileError):
    """What there is to tell of one sound cannot be written; the next one's may well be."""


@contextlib.contextmanager
def _of_one_sound() -> Iterator[None]:
    try:
        yield
    except FrameFileError as error:
        raise SharedOutputError(str(error)) from error


def _sample_rate_hz(path: str) -> float | None:
    """Of a sound, None where it cannot be known."""
    from vggish.audio.stream import open_audio

    if path == STDOUT:
        return None
    try:
        with open_audio(path) as stream:
            return stream.sample_rate_hz
    except AudioError:
        return None
