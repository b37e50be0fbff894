"""What to embed: files, directories, patterns and lists -> one item a clip."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vggish.audio import AUDIO_SUFFIXES
from vggish.errors import OptionError

STDIN = "-"


@dataclass(frozen=True)
class Item:
    """One sound to embed.

    Attributes:
        source: path, or "-" for standard input.
        clip_id: its place below the input's root, without the suffix, with `/`.
        stem: the path of its output below the output directory, without a suffix.
    """

    source: str
    clip_id: str
    stem: PurePath


@dataclass(frozen=True)
class Inputs:
    """Everything to embed, in order, and what was left out.

    Attributes:
        items: the sounds.
        skipped: files of directories whose suffix is not one of sound.
        repeated: sources that were named more than once.
    """

    items: Sequence[Item]
    skipped: Sequence[str]
    repeated: Sequence[str]


def find_inputs(arguments: Iterable[str]) -> Inputs:
    """Find the sounds that the arguments mean.

    A directory stands for the sound files below it, in sorted order, named from it. A pattern
    that is no file is expanded (`**` included). Other paths stand for themselves, existing or
    not, and are named from the deepest directory that they share.

    Raises:
        OptionError: nothing is found.
    """
    named: list[str] = []
    placed: list[tuple[str, PurePath]] = []
    skipped: list[str] = []
    for argument in arguments:
        if os.path.isdir(argument):
            for path in _walk(argument):
                if Path(path).suffix.lower() in AUDIO_SUFFIXES:
                    placed.append((path, PurePath(os.path.relpath(path, argument))))
                else:
                    skipped.append(path)
        elif glob.has_magic(argument) and not os.path.exists(argument):
            found = sorted(p for p in glob.glob(argument, recursive=True) if os.path.isfile(p))
            # A pattern without a match is reported like a file that is not there.
            named += found or [argument]
        else:
            named.append(argument)
    root = _common_directory([path for path in named if path != STDIN])
    for path in named:
        relative = "stdin" if path == STDIN else os.path.relpath(path, root)
        placed.append((path, PurePath(relative)))
    if not placed:
        what = f"; {len(skipped)} other files are there" if skipped else ""
        raise OptionError(f"no sound files were found{what}")
    first: dict[str, tuple[str, PurePath]] = {}
    repeated = []
    for path, relative_path in placed:
        key = path if path == STDIN else os.path.realpath(path)
        if key in first:
            repeated.append(path)
        else:
            first[key] = (path, relative_path)
    return Inputs(list(_unambiguous(first.values())), skipped, repeated)


def read_list(path: str) -> list[str]:
    """The lines of a list of files (`-` for standard input), without empty ones.

    Raises:
        OptionError: the list cannot be read.
    """
    try:
        if path == STDIN:
            lines = sys.stdin.read().splitlines()
        else:
            lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the list of files {path}: {error}") from error
    return [line for line in lines if line.strip()]


def _walk(directory: str) -> Iterator[str]:
    for parent, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for file in sorted(files):
            if not file.startswith("."):
                yield os.path.join(parent, file)


def _common_directory(paths: Sequence[str]) -> str:
    if not paths:
        return "."
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    except ValueError:  # different drives on Windows
        return os.path.dirname(os.path.abspath(paths[0]))


def _unambiguous(placed: Iterable[tuple[str, PurePath]]) -> Iterator[Item]:
    """Items whose outputs differ: `a.wav` and `a.mp3` keep their suffixes, twins get a number."""
    each = list(placed)
    count: dict[PurePath, int] = {}
    for _, relative in each:
        stem = relative.with_suffix("")
        count[stem] = count.get(stem, 0) + 1
    used: set[PurePath] = set()
    for path, relative in each:
        stem = relative.with_suffix("")
        if count[stem] > 1:
            stem = relative
        # Nothing is ever written outside the output directory.
        stem = PurePath(*(part for part in stem.parts if part not in ("..", stem.anchor)))
        unique, number = stem, 2
        while unique in used:
            unique, number = stem.with_name(f"{stem.name}-{number}"), number + 1
        used.add(unique)
        yield Item(path, unique.as_posix(), unique)
