"""What to embed: files, directories, patterns and lists -> one item a clip."""

from __future__ import annotations

import codecs
import glob
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.common.wording import as_text
from vggish.errors import OptionError

STDIN = "-"


@dataclass(frozen=True)
class Item:
    """One sound to embed.

    Attributes:
        source: path, or "-" for standard input.
        clip_id: its place below the directory that all inputs share, without the suffix.
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
        unreadable: (directory, why it cannot be searched).
    """

    items: Sequence[Item]
    skipped: Sequence[str]
    repeated: Sequence[str]
    unreadable: Sequence[tuple[str, str]]


def find_inputs(arguments: Iterable[str]) -> Inputs:
    """Find the sounds that the arguments mean.

    A directory stands for the sound files below it, hidden ones aside, in sorted order. A
    pattern that is no file stands for its matches (`**` included). Other paths stand for
    themselves, existing or not. All are named from the deepest directory that they share; a
    directory that is the only argument is that itself.

    Raises:
        OptionError: nothing is found.
    """
    search = _Search()
    for argument in arguments:
        search.add(argument)
    what = f"; {len(search.skipped)} other files are there" if search.skipped else ""
    if search.unreadable:
        what += "; cannot search " + ", ".join(": ".join(pair) for pair in search.unreadable)
    if not search.found:
        raise OptionError(f"no sound files were found{what}")
    root = _common_directory(search.places)
    first: dict[str, tuple[str, PurePath]] = {}
    repeated = []
    for path in search.found:
        key = path if path == STDIN else os.path.realpath(path)
        if key in first:
            repeated.append(path)
        else:
            relative = "stdin" if path == STDIN else os.path.relpath(path, root)
            first[key] = (path, PurePath(relative))
    items = list(_unambiguous(list(first.values())))
    return Inputs(items, search.skipped, repeated, search.unreadable)


def read_list(path: str) -> list[str]:
    """The lines of a list of files (`-` for standard input), without empty ones.

    Raises:
        OptionError: the list cannot be read, or is no list of names.
    """
    if path == STDIN and sys.stdin is None:
        raise OptionError("cannot read the list of files from standard input: it is closed")
    try:
        data = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise OptionError(f"cannot read the list of files {path}: {error.strerror}") from error
    if b"\0" in data:
        raise OptionError(
            f"the list of files {path} holds NUL bytes; it must be UTF-8 text, one name a line"
        )
    lines = os.fsdecode(data.removeprefix(codecs.BOM_UTF8)).split("\n")
    return [name for line in lines if (name := line.removesuffix("\r")).strip()]


class _Search:
    """Gathers what arguments stand for: sounds found, and the directories they are named from."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.places: list[str] = []
        self.skipped: list[str] = []
        self.unreadable: list[tuple[str, str]] = []

    def add(self, argument: str) -> None:
        if not argument:
            raise OptionError("an input has no name: it is empty. Was a variable not set?")
        if os.path.isdir(argument):
            self.places.append(os.path.abspath(argument))
            self._add_below(argument)
        elif glob.has_magic(argument) and not os.path.exists(argument):
            # What `**` reaches holds the files of the directories that it reaches.
            matches = sorted(glob.glob(argument, recursive=True))
            matches = [m for m in matches if "**" not in argument or not os.path.isdir(m)]
            for match in matches:
                self.add(match)
            if not matches:  # reported like a file that is not there
                self._add_file(argument)
        else:
            self._add_file(argument)

    def _add_file(self, path: str) -> None:
        self.found.append(path)
        if path != STDIN:
            self.places.append(os.path.dirname(os.path.abspath(path)))

    def _add_below(self, top: str) -> None:
        seen = {os.path.realpath(top)}
        walk = os.walk(top, followlinks=True, onerror=self._note_unreadable)
        for parent, directories, files in walk:
            below = {name: os.path.realpath(os.path.join(parent, name)) for name in directories}
            # A link to a directory is followed, but in no circle.
            directories[:] = [
                name
                for name in sorted(directories)
                if not name.startswith(".") and below[name] not in seen
            ]
            seen.update(below[name] for name in directories)
            for path in (os.path.join(parent, name) for name in sorted(files) if name[0] != "."):
                is_sound = Path(path).suffix.lower() in AUDIO_SUFFIXES and not _is_special(path)
                (self.found if is_sound else self.skipped).append(path)

    def _note_unreadable(self, error: OSError) -> None:
        self.unreadable.append((str(error.filename), error.strerror or str(error)))


def _is_special(path: str) -> bool:
    """Whether it is a pipe or the like, which would be waited for. What is absent is none."""
    return not os.path.isfile(path) and os.path.exists(path)


def _common_directory(directories: Sequence[str]) -> str:
    if not directories:
        return "."
    try:
        return os.path.commonpath(directories)
    except ValueError:  # different drives on Windows
        return directories[0]


def _unambiguous(placed: Sequence[tuple[str, PurePath]]) -> Iterator[Item]:
    """Items whose outputs differ: `a.wav` and `a.mp3` keep their suffixes, twins get a number.

    Names that differ only in case, or in how accents are composed, are one file on some disks.
    """
    sharing: dict[str, list[PurePath]] = {}
    for _, relative in placed:
        sharing.setdefault(_folded(_stem(relative)), []).append(relative)
    used: set[str] = set()
    for path, relative in placed:
        twins = sharing[_folded(_stem(relative))]
        suffixes_differ = len({_folded(twin) for twin in twins}) == len(twins) > 1
        stem = relative if suffixes_differ else _stem(relative)
        unique, number = stem, 2
        while _folded(unique) in used:
            unique, number = stem.with_name(f"{stem.name}-{number}"), number + 1
        used.add(_folded(unique))
        yield Item(path, as_text(unique.as_posix()), unique)


def _stem(relative: PurePath) -> PurePath:
    # Nothing is ever written outside the output directory, whatever the name.
    parts = [part for part in relative.parts if part not in ("..", relative.anchor)]
    inside = PurePath(*parts)
    return inside if inside.stem in (".", "..") else inside.with_suffix("")


def _folded(path: PurePath) -> str:
    return unicodedata.normalize("NFC", path.as_posix()).casefold()
