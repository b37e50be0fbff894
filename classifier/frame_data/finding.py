"""Find files of frames: files, directories, patterns and URLs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from classifier.frame_data.remote_files import find_remote, is_remote
from classifier.names import CARD_FILE
from vggish.common.search import expand, is_pattern, split_repeated, walk_files
from vggish.common.wording import one_line
from vggish.errors import OptionError


def find_frame_files(arguments: Sequence[str]) -> list[str]:
    """Find the files of frames that command-line arguments name: sorted paths, each file once.

    Arguments are files; directories, which stand for the files of frames below them, without hidden
    ones and those inside training runs and bundles; patterns (`**` included); the same as URLs
    (`s3://`, `gs://`, `https://` and others that fsspec knows). Each must name a file.
    """
    found: list[str] = []
    for argument in arguments:
        if not argument:
            raise OptionError("the name of a file of frames is empty. Is a variable not set?")
        find = _find_remote if is_remote(argument) else _find_local
        # Of several paths to a file, through links, the shortest is kept.
        found += sorted(find(argument), key=len)
    if not found:
        raise OptionError("no files of frames given: name files, directories or 'patterns'")
    key = lambda path: path if is_remote(path) else os.path.realpath(path)  # noqa: E731
    return sorted(split_repeated(found, key)[0])


def files_below(directory: str) -> Iterator[str]:
    """Paths of all files below a directory; an `OptionError` if it cannot be searched."""
    return walk_files(directory, _raise_unsearchable)


def looks_like_frames(path: str) -> bool:
    """Whether a file in a directory has frames, by its name, or by its first bytes for a CSV."""
    name = os.path.basename(path).lower()
    if name.endswith(".csv") and not is_remote(path):
        # Ours begin with a line of metadata; other CSVs, such as labels, may lie beside them.
        try:
            with open(path, "rb") as file:
                return file.read(3) == b"# {"
        except OSError:
            return True  # reported when it is read
    return ".tfrec" in name or name.endswith((".npz", ".jsonl", ".parquet"))


def frames_among(paths: Iterable[str]) -> list[str]:
    """Files of frames among all files below a directory, without those of runs and bundles."""
    known = dict.fromkeys(paths)
    runs_and_bundles = tuple(
        os.path.join(os.path.dirname(path), "")
        for path in known
        if os.path.basename(path) == CARD_FILE
        or (os.path.basename(path) == "config.json" and path[:-11] + "split.csv" in known)
    )
    return [
        path for path in known if looks_like_frames(path) and not path.startswith(runs_and_bundles)
    ]


def _find_local(argument: str) -> list[str]:
    if os.path.isdir(argument):
        return _checked(frames_among(files_below(argument)), argument)
    if os.path.exists(argument):
        return [argument]
    if not is_pattern(argument):
        raise OptionError(f"no file or directory {one_line(argument)}")
    matches = expand(argument)
    if not matches:
        raise OptionError(f"no file matches the pattern {one_line(argument)}")
    files = [match for match in matches if not os.path.isdir(match)]
    return files or [path for match in matches for path in _find_local(match)]


def _find_remote(argument: str) -> list[str]:
    found, is_directory = find_remote(argument)
    return _checked(frames_among(found), argument) if is_directory else found


def _checked(paths: list[str], argument: str) -> list[str]:
    if not paths:
        raise OptionError(
            f"no files of frames in {one_line(argument)} (TFRecords, or the output of embed)"
        )
    return paths


def _raise_unsearchable(error: OSError) -> None:
    raise OptionError(f"cannot search the directory {error.filename}: {error.strerror or error}")
