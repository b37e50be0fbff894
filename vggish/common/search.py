"""Search directories, patterns and lists for files."""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vggish.common.csv_table import decode_text
from vggish.errors import OptionError

STDIN = "-"


def walk_files(top: str, on_error: Callable[[OSError], object]) -> Iterator[str]:
    """Paths of the files below a directory, sorted, without hidden files and directories.

    Links to directories are followed, except to a directory that was searched before. `on_error`
    is called with the error of each directory that cannot be searched.
    """
    seen = {os.path.realpath(top)}
    for parent, directories, files in os.walk(top, followlinks=True, onerror=on_error):
        real = {name: os.path.realpath(os.path.join(parent, name)) for name in directories}
        directories[:] = [
            name for name in sorted(directories) if name[0] != "." and real[name] not in seen
        ]
        seen.update(real[name] for name in directories)
        yield from (os.path.join(parent, name) for name in sorted(files) if name[0] != ".")


def is_pattern(argument: str) -> bool:
    """Whether an argument has wildcards and is not the name of a file that exists."""
    return glob.has_magic(argument) and not os.path.exists(argument)


def expand(pattern: str) -> list[str]:
    """Matches of a pattern, sorted; `**` matches files at any depth, and no directories."""
    matches = sorted(glob.glob(pattern, recursive=True))
    return [match for match in matches if "**" not in pattern or not os.path.isdir(match)]


def split_repeated(
    paths: Iterable[str], key: Callable[[str], str] = os.path.realpath
) -> tuple[list[str], list[str]]:
    """Split paths into the first path of each file and further paths of the same files."""
    first: dict[str, str] = {}
    repeated = []
    for path in paths:
        real = key(path)
        if real in first:
            repeated.append(path)
        else:
            first[real] = path
    return list(first.values()), repeated


def read_list(path: str) -> list[str]:
    """Read a list of files, one a line (`-` for standard input); empty lines are left out."""
    if path == STDIN and sys.stdin is None:
        raise OptionError("cannot read the list of files from standard input: it is closed")
    try:
        data = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise OptionError(f"cannot read the list of files {path}: {error.strerror}") from error
    if b"\0" in data:  # only UTF-16 has them
        text = decode_text(data, f"the list of files {path}").removeprefix("\ufeff")
    else:
        text = os.fsdecode(data.removeprefix(codecs.BOM_UTF8))  # names need not be UTF-8
    lines = text.split("\n")
    return [name for line in lines if (name := line.removesuffix("\r")).strip()]
