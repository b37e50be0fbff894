"""Find files of frames from paths, directories, patterns and remote addresses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence

from classifier.frame_data.remote_files import gfile, is_remote
from classifier.names import CARD_FILE
from vggish.common.wording import one_line
from vggish.errors import OptionError, first_line

# --- Finding files -----------------------------------------------------------------------


def find_frame_files(arguments: Sequence[str]) -> list[str]:
    """Find the files that the arguments mean.

    Args:
        arguments: files; directories, which stand for the files of frames below them, but not
            for hidden ones and what is in runs and bundles; patterns (`**` included); the same
            at remote places ("gs://..."), as far as TensorFlow can read them.

    Returns:
        Paths, sorted, each once.

    Raises:
        OptionError: an argument leads to no file.
        MissingPackageError: a place is remote and TensorFlow is not installed.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        if not argument:
            raise OptionError("a name of files of frames is empty; is a variable not set?")
        remote = is_remote(argument)
        # Of several ways to a file, through links, the shortest is taken.
        for path in sorted(_find_remote(argument) if remote else _find_local(argument), key=len):
            found.setdefault(path if remote else os.path.realpath(path), path)
    if not found:
        raise OptionError("no files of frames are named; give files, directories or 'patterns'")
    return sorted(found.values())


def files_below(directory: str) -> Iterator[str]:
    """All files below a directory but hidden ones; links are followed, in no circle.

    Raises:
        OptionError: a directory cannot be searched.
    """
    return _walked(os.walk(directory, followlinks=True, onerror=_cannot_search))


def looks_like_frames(path: str) -> bool:
    """Whether a file of a directory is meant to be read: by its name, and a CSV by its start."""
    name = os.path.basename(path).lower()
    if name.endswith(".csv") and not is_remote(path):
        # Ours begin with a line of metadata; others, such as lists of labels, lie beside frames.
        try:
            with open(path, "rb") as file:
                return file.read(3) == b"# {"
        except OSError:
            return True  # reading it will tell
    return ".tfrec" in name or name.endswith((".npz", ".jsonl", ".parquet"))


def frames_among(paths: Iterable[str]) -> list[str]:
    """Of all files below a directory those of frames; what runs and bundles hold are none."""
    found = list(paths)
    known = set(found)
    inside = tuple(
        os.path.join(os.path.dirname(path), "")
        for path in found
        if os.path.basename(path) == CARD_FILE
        or (os.path.basename(path) == "config.json" and path[:-11] + "split.csv" in known)
    )
    return [path for path in found if looks_like_frames(path) and not path.startswith(inside)]


def _find_local(argument: str) -> list[str]:
    if os.path.isdir(argument):
        return _some(frames_among(files_below(argument)), argument)
    if os.path.exists(argument):
        return [argument]
    if not glob.has_magic(argument):
        raise OptionError(f"there is no file or directory {one_line(argument)}")
    matches = glob.glob(argument, recursive=True)
    files = [match for match in matches if not os.path.isdir(match)]
    if not files and "**" not in argument:
        files = [path for match in matches for path in _find_local(match)]
    if not files:
        raise OptionError(f"nothing matches the pattern {one_line(argument)}")
    return files


def _find_remote(argument: str) -> list[str]:
    files = gfile()
    try:
        if files.isdir(argument):
            return _some(frames_among(_walked(files.walk(argument))), argument)
        if glob.has_magic(argument):
            return _some(files.glob(argument), argument)
        if files.exists(argument):
            return [argument]
    except OptionError:
        raise
    except Exception as error:  # TensorFlow's errors, and those of its file systems
        raise OptionError(f"cannot look for {argument}: {first_line(error)}") from error
    raise OptionError(f"there is no file or directory {argument}")


def _walked(walk: Iterable[tuple[str, list[str], list[str]]]) -> Iterator[str]:
    seen: set[str] = set()
    for parent, directories, files in walk:
        seen.add(os.path.realpath(parent))
        directories[:] = [
            name
            for name in directories
            if name[0] != "." and os.path.realpath(os.path.join(parent, name)) not in seen
        ]
        yield from (os.path.join(parent, name) for name in files if name[0] != ".")


def _cannot_search(error: OSError) -> None:
    raise OptionError(f"cannot search the directory {error.filename}: {error.strerror or error}")


def _some(paths: Iterable[str], argument: str) -> list[str]:
    found = list(paths)
    if not found:
        where = one_line(argument)
        raise OptionError(f"{where} has no files of frames (TFRecords, or what embed wrote)")
    return found
