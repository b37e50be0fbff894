"""Remote files (`s3://`, `gs://`, `https://` and others), through fsspec."""

from __future__ import annotations

import glob
import io
import re
from typing import Any

from vggish.errors import MissingPackageError, OptionError, first_line


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def find_remote(url: str) -> tuple[list[str], bool]:
    """Find a remote file, the files below a directory, or the matches of a pattern.

    Hidden files are left out. A directory on an HTTP server ends with "/" and needs an index page.
    Returns URLs, and whether they are those of a directory.
    """
    files, path = _file_system(url)
    try:
        if not url.endswith("/") and files.isfile(path):
            return [url], False
        is_directory = not glob.has_magic(path)
        found = files.find(path) if is_directory else files.glob(path)
    except Exception as error:  # each file system has errors of its own
        raise OptionError(f"cannot search {url}: {first_line(error)}") from error
    if not found:
        raise OptionError(f"no file or directory {url}, or it cannot be accessed")
    base = path if is_directory else re.split(r"[*?[]", path)[0].rpartition("/")[0]
    found = [name for name in found if "/." not in name.removeprefix(base)]  # no hidden files
    return [files.unstrip_protocol(name) for name in found], is_directory


def open_remote(url: str) -> io.BufferedReader:
    """Open a remote file for reading."""
    files, path = _file_system(url)
    return io.BufferedReader(files.open(path, "rb"))


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec  # takes 0.2 s, and most runs have no URLs

    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingPackageError(
            f"reading {url} needs a package that is not installed: {first_line(error)}.\n"
            "Install it with: pip install 'audiotag[remote]'"
        ) from error
    except ValueError as error:
        raise OptionError(f"cannot open {url}: {first_line(error)}") from error
    return files, path
