"""Find the audio files to process: files, directories, patterns and lists."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.common.search import STDIN, expand, is_pattern, split_repeated, walk_files
from vggish.common.wording import as_text
from vggish.errors import OptionError


@dataclass(frozen=True)
class Item:
    """One clip to process."""

    source: str  # path, or "-" for standard input
    clip_id: str  # path relative to the directory that all inputs share, without the suffix
    stem: PurePath  # of the output: relative to the output directory, without a suffix


@dataclass(frozen=True)
class Inputs:
    """The clips to process, in order, and the files that were left out."""

    items: Sequence[Item]
    skipped: Sequence[str]  # files in directories that have no suffix of an audio format
    repeated: Sequence[str]  # further paths of files that are among the items
    unreadable: Sequence[tuple[str, str]]  # directories that cannot be searched, and the reason


def find_inputs(arguments: Iterable[str]) -> Inputs:
    """Find the audio files that command-line arguments name.

    A directory stands for the audio files below it, in sorted order and without hidden ones. A
    pattern (`**` included) stands for its matches. Any other path stands for itself, whether it
    exists or not. Clip ids are relative to the deepest directory that all inputs share.
    """
    search = _Search()
    for argument in arguments:
        search.add(argument)
    if not search.found:
        details = f"; skipped {len(search.skipped)} other files" if search.skipped else ""
        if search.unreadable:
            details += "; cannot search " + ", ".join(map(": ".join, search.unreadable))
        raise OptionError(f"no audio files found{details}")
    root = search.directories[0] if search.directories else "."
    with contextlib.suppress(ValueError):  # no directories, or different drives on Windows
        root = os.path.commonpath(search.directories)
    sources, repeated = split_repeated(
        search.found, lambda path: path if path == STDIN else os.path.realpath(path)
    )
    names = ["stdin" if path == STDIN else os.path.relpath(path, root) for path in sources]
    items = list(_with_distinct_stems(sources, list(map(PurePath, names))))
    return Inputs(items, search.skipped, repeated, search.unreadable)


class _Search:
    """Collects the audio files of the arguments, and the directories that hold them."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.directories: list[str] = []
        self.skipped: list[str] = []
        self.unreadable: list[tuple[str, str]] = []

    def add(self, argument: str) -> None:
        if not argument:
            raise OptionError("the name of an input is empty. Is a shell variable not set?")
        if os.path.isdir(argument):
            self.directories.append(os.path.abspath(argument))
            for path in walk_files(argument, self._add_unreadable):
                # A pipe or a device could block; a missing file fails later.
                is_special = os.path.exists(path) and not os.path.isfile(path)
                is_audio = Path(path).suffix.lower() in AUDIO_SUFFIXES and not is_special
                (self.found if is_audio else self.skipped).append(path)
            return
        matches = expand(argument) if is_pattern(argument) else []
        for match in matches:
            self.add(match)
        if not matches:  # a missing file fails later, when it is opened
            self.found.append(argument)
            if argument != STDIN:
                self.directories.append(os.path.dirname(os.path.abspath(argument)))

    def _add_unreadable(self, error: OSError) -> None:
        self.unreadable.append((str(error.filename), error.strerror or str(error)))


def _with_distinct_stems(sources: Sequence[str], relative: Sequence[PurePath]) -> Iterator[Item]:
    """Items with distinct outputs: `a.wav` and `a.mp3` keep their suffixes, others get a number.

    Names that differ only in case or in Unicode normalisation are the same file on some disks.
    """
    sharing: dict[str, list[PurePath]] = {}
    for path in relative:
        sharing.setdefault(_folded(_stem(path)), []).append(path)
    used: set[str] = set()
    for source, path in zip(sources, relative, strict=True):
        same_stem = sharing[_folded(_stem(path))]
        suffixes_differ = len(set(map(_folded, same_stem))) == len(same_stem) > 1
        stem = path if suffixes_differ else _stem(path)
        unique, number = stem, 2
        while _folded(unique) in used:
            unique, number = stem.with_name(f"{stem.name}-{number}"), number + 1
        used.add(_folded(unique))
        yield Item(source, as_text(unique.as_posix()), unique)


def _stem(relative: PurePath) -> PurePath:
    # Without ".." and the root, so that no output is written outside the output directory.
    inside = PurePath(*(part for part in relative.parts if part not in ("..", relative.anchor)))
    return inside if inside.stem in (".", "..") else inside.with_suffix("")


def _folded(path: PurePath) -> str:
    return unicodedata.normalize("NFC", path.as_posix()).casefold()
