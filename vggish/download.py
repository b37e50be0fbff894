"""Downloads that resume, and files that are what they should be."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggish.errors import DownloadError, WeightsError

if TYPE_CHECKING:
    import httpx

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
# Attempts in a row that brought no byte before a download is given up.
MAX_FRUITLESS_ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.5
# Answers that another attempt may change.
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL, with what it must be.

    Attributes:
        name: file name.
        url: http or https.
        size: in bytes.
        sha256: lower-case hexadecimal.
    """

    name: str
    url: str
    size: int
    sha256: str


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check_file(path: Path, expected: RemoteFile) -> None:
    """Check size and sha256 of a file.

    Raises:
        WeightsError: it is absent, or not the file that is expected.
    """
    if not path.is_file():
        raise WeightsError(f"no file at {path}")
    size = path.stat().st_size
    if size != expected.size:
        raise WeightsError(
            f"{path} is not {expected.name}: it has {size:,} bytes instead of {expected.size:,}"
        )
    digest = sha256_of(path)
    if digest != expected.sha256:
        raise WeightsError(
            f"{path} is not {expected.name}: its sha256 is {digest} instead of {expected.sha256}"
        )


def download(file: RemoteFile, directory: Path, on_progress: Progress | None = None) -> Path:
    """Download a file into a directory, going on where a broken download stopped.

    What has arrived is kept as `<name>.part`; the file bears its name only once size and
    sha256 are right. A file that is there already, and right, is not fetched again.

    Args:
        file: what to fetch.
        directory: where to; made if need be. One process at a time may use it.
        on_progress: called with (bytes so far, bytes in all).

    Raises:
        DownloadError: the server cannot be reached, refuses, keeps breaking off, or sends
            something else than the file.
    """
    import httpx

    directory.mkdir(parents=True, exist_ok=True)
    path, part = directory / file.name, directory / f"{file.name}.part"
    if path.exists():
        try:
            check_file(path, file)
            return path
        except WeightsError:
            path.unlink()
    report = on_progress if on_progress is not None else _ignore
    resumed = part.exists() and part.stat().st_size > 0
    fruitless, pause, reason = 0, FIRST_PAUSE_SECONDS, ""
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT_SECONDS) as client:
        while _size(part) < file.size:
            before = _size(part)
            try:
                _fetch_rest(client, file, part, report)
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            except _TransientAnswerError as error:
                reason = str(error)
            except httpx.HTTPError as error:
                raise DownloadError(f"cannot download {file.url}: {error}") from error
            if _size(part) > before:
                fruitless, pause = 0, FIRST_PAUSE_SECONDS
                continue
            fruitless += 1
            if fruitless >= MAX_FRUITLESS_ATTEMPTS:
                raise DownloadError(
                    f"cannot download {file.url}: {reason or 'the server sends nothing'}.\n"
                    f"{_size(part):,} of {file.size:,} bytes are kept; run the command again to "
                    "go on"
                )
            time.sleep(pause)
            pause *= 2
    try:
        check_file(part, file)
    except WeightsError as error:
        part.unlink()
        if resumed:
            # The bytes of the earlier attempt may be the wrong ones; the server deserves a try.
            return download(file, directory, on_progress)
        raise DownloadError(f"{file.url} sent another file: {error}") from error
    part.replace(path)
    return path


class _TransientAnswerError(Exception):
    """An HTTP status that another attempt may change."""


def _fetch_rest(client: httpx.Client, file: RemoteFile, part: Path, report: Progress) -> None:
    """One request for the bytes of `file` that `part` lacks, appended to it."""
    have = _size(part)
    # Bytes as they are stored: a transfer encoding would break offsets and the checksum.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with client.stream("GET", file.url, headers=headers) as response:
        if response.status_code in _TRANSIENT_STATUS:
            raise _TransientAnswerError(f"HTTP status {response.status_code}")
        if response.status_code == 416:
            part.unlink()
            raise _TransientAnswerError("the server refuses to continue the download")
        if response.status_code not in (200, 206):
            raise DownloadError(f"cannot download {file.url}: HTTP {response.status_code}")
        mode = "ab"
        if response.status_code == 200:
            have, mode = 0, "wb"  # no ranges here: begin again
        else:
            begin = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if begin is None or int(begin[1]) != have:
                part.unlink()
                raise _TransientAnswerError("the server sent another range than it was asked for")
        with open(part, mode) as out:
            report(have, file.size)
            for chunk in response.iter_raw(CHUNK_BYTES):
                have += len(chunk)
                if have > file.size:
                    out.close()
                    part.unlink()
                    raise DownloadError(
                        f"{file.url} sent another file: more than {file.size:,} bytes"
                    )
                out.write(chunk)
                report(have, file.size)


def _size(path: Path) -> int:
    return os.path.getsize(path) if path.exists() else 0


def _ignore(done: int, total: int) -> None:
    pass
