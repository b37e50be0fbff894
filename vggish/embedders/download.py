"""Downloads that resume, and files that are what they should be."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggish.common.checksums import sha256_of
from vggish.errors import DownloadError, WeightsError

if TYPE_CHECKING:
    import httpx


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

    Raises:
        ValueError: a value that no such file can have.
    """

    name: str
    url: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]*\w", self.name):
            raise ValueError(f"a file needs a plain name. Received: {self.name!r}")
        if not re.match(r"https?://[^/]", self.url):
            raise ValueError(f"{self.name}: url must be http or https. Received: {self.url!r}")
        if type(self.size) is not int or self.size <= 0:
            raise ValueError(f"{self.name}: size must be in bytes. Received: {self.size!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"{self.name}: sha256 must be 64 lower-case hexadecimal digits. "
                f"Received: {self.sha256!r}"
            )


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
            something else than the file; or the directory cannot be written to.
    """
    path, part = directory / file.name, directory / f"{file.name}.part"
    report = on_progress if on_progress is not None else _ignore
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if _is_right(path, file):
            return path
        path.unlink(missing_ok=True)
        if part.exists():
            # The bytes of an earlier attempt may be wrong ones: then the server deserves a try.
            _complete(file, part, report)
            if not _is_right(part, file):
                part.unlink()
        _complete(file, part, report)
        try:
            check_file(part, file)
        except WeightsError as error:
            part.unlink()
            raise DownloadError(f"{file.url} sent another file: {error}") from error
        part.replace(path)
    except OSError as error:
        raise DownloadError(f"cannot write {part}: {error.strerror or error}") from error
    return path


def _complete(file: RemoteFile, part: Path, report: Progress) -> None:
    """Bring `part` to the size of `file`, with as many requests as that takes."""
    import httpx

    most, fruitless, reason = _size(part), 0, ""
    with _client() as client:
        while _size(part) < file.size:
            try:
                _fetch_rest(client, file, part, report)
                reason = "the answer ends too early"
            except _TransientAnswerError as error:
                reason = str(error)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason = str(error) or type(error).__name__
                if not isinstance(error, httpx.TransportError):
                    raise DownloadError(f"cannot download {file.url}: {reason}") from error
            # Only more than ever before is progress, or a server could keep us busy for ever.
            if _size(part) > most:
                most, fruitless = _size(part), 0
                continue
            fruitless += 1
            if fruitless >= MAX_FRUITLESS_ATTEMPTS:
                raise DownloadError(
                    f"cannot download {file.url}: {reason}.\n{_size(part):,} of {file.size:,} "
                    "bytes are kept; run the command again to go on"
                )
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (fruitless - 1))


class _TransientAnswerError(Exception):
    """An answer that another attempt may change."""


def _client() -> httpx.Client:
    import httpx

    try:
        return httpx.Client(follow_redirects=True, timeout=TIMEOUT_SECONDS)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        raise DownloadError(
            f"cannot use the proxy or certificates that the environment names: {error}"
        ) from error


def _fetch_rest(client: httpx.Client, file: RemoteFile, part: Path, report: Progress) -> None:
    """One request for the bytes of `file` that `part` lacks, appended to it."""
    have = _size(part)
    # Bytes as they are stored: a transfer encoding would break offsets and the checksum.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with client.stream("GET", file.url, headers=headers) as response:
        status = response.status_code
        if status in _TRANSIENT_STATUS:
            raise _TransientAnswerError(f"HTTP {status} {response.reason_phrase}")
        if status == 416:
            part.unlink(missing_ok=True)
            raise _TransientAnswerError("the server refuses to continue the download")
        if status not in (200, 206):
            raise DownloadError(
                f"cannot download {file.url}: HTTP {status} {response.reason_phrase}"
            )
        begin, total = _begin_and_total(response)
        _refuse_other_file(response, total, file)
        if begin not in (0, have):
            part.unlink(missing_ok=True)
            raise _TransientAnswerError("the server sent another range than it was asked for")
        report(begin, file.size)
        have = begin
        with open(part, "ab" if begin else "wb") as out:
            # Chunks as they come: to gather them would lose the last one when the answer breaks.
            for chunk in response.iter_raw():
                have += len(chunk)
                if have > file.size:
                    break
                out.write(chunk)
                report(have, file.size)
    if have > file.size:
        part.unlink()
        raise DownloadError(f"{file.url} sent another file: more than {file.size:,} bytes")


def _begin_and_total(response: httpx.Response) -> tuple[int, int | None]:
    """First byte of an answer, -1 for none that is known; and the size of the file, if told."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    told = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if told is None:
        return -1, None
    return int(told[1]), None if told[2] == "*" else int(told[2])


def _refuse_other_file(response: httpx.Response, total: int | None, file: RemoteFile) -> None:
    """Refuse what is clearly not `file` before anything that has arrived is overwritten."""
    if total == file.size:
        return
    page = response.headers.get("Content-Type", "").startswith("text/html")
    if total is None and not page:
        return
    kind = "a web page (is it the login of a network or proxy?)" if page else "another file"
    size = "" if total is None else f", {total:,} bytes instead of {file.size:,}"
    raise DownloadError(f"{file.url} sent {kind}{size}")


def _is_right(path: Path, file: RemoteFile) -> bool:
    try:
        check_file(path, file)
    except WeightsError:
        return False
    return True


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _ignore(done: int, total: int) -> None:
    pass
