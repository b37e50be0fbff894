"""Download files of known size and checksum, resuming broken downloads.

httpx follows redirects, keeps timeouts and uses the proxy; resuming is not part of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggish.common.files import file_problem
from vggish.errors import DownloadError, WeightsError, write_errors_as

if TYPE_CHECKING:
    import httpx  # imported late: only downloads need it

TIMEOUT_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.5
# A download fails after this many attempts in a row without new bytes.
MAX_FRUITLESS_ATTEMPTS = 4
# HTTP statuses after which another attempt may succeed.
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}

# Called with (bytes downloaded so far, total bytes).
OnDownloadProgress = Callable[[int, int], None]

_FORMATS = {
    "name": (r"[\w.-]*\w", "a plain file name"),
    "url": (r"https?://[^/].*", "an http or https URL"),
    "sha256": (r"[0-9a-f]{64}", "64 lower-case hexadecimal digits"),
}


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL, with its expected size in bytes and sha256 in lower-case hexadecimal."""

    name: str
    url: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        for field, (pattern, meaning) in _FORMATS.items():
            value = getattr(self, field)
            if not re.fullmatch(pattern, value):
                raise ValueError(f"{self.name}: {field} must be {meaning}. Received: {value!r}")
        if type(self.size) is not int or self.size <= 0:
            raise ValueError(f"{self.name}: size must be in bytes. Received: {self.size!r}")


def check_file(path: Path, expected: RemoteFile) -> None:
    """Raise `WeightsError` if a file is missing, or differs in size or sha256."""
    problem = file_problem(path, expected.size, expected.sha256)
    if problem:
        raise WeightsError(f"{path} is not {expected.name}: it {problem}")


def download(
    file: RemoteFile, directory: Path, on_progress: OnDownloadProgress | None = None
) -> Path:
    """Download a file into a directory, continuing where a broken download stopped.

    Received bytes are kept as `<name>.part`; the file gets its name once its size and sha256 are
    verified. A verified file that exists already is not downloaded again. Only one process at a
    time may use the directory, which is created if necessary. All failures are `DownloadError`s.
    """
    path, part = directory / file.name, directory / f"{file.name}.part"
    report = on_progress if on_progress is not None else lambda done, total: None
    with write_errors_as(DownloadError, part):
        directory.mkdir(parents=True, exist_ok=True)
        if not file_problem(path, file.size, file.sha256):
            return path
        path.unlink(missing_ok=True)
        if part.exists():
            _complete(file, part, report)
            if file_problem(part, file.size, file.sha256):
                part.unlink()  # an earlier run received wrong bytes: start again
        _complete(file, part, report)
        problem = file_problem(part, file.size, file.sha256)
        if problem:
            part.unlink()
            raise DownloadError(f"{file.url} sent another file: it {problem}")
        part.replace(path)
    return path


class _TransientError(Exception):
    """A failed attempt after which another one may succeed."""


def _complete(file: RemoteFile, part: Path, report: OnDownloadProgress) -> None:
    """Bring `part` to the size of `file`, with as many requests as necessary."""
    import httpx

    try:
        client = httpx.Client(follow_redirects=True, timeout=TIMEOUT_SECONDS)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        raise DownloadError(
            f"cannot use the proxy or certificates set in the environment: {error}"
        ) from error
    most, fruitless = _size(part), 0
    with client:
        while _size(part) < file.size:
            try:
                _request_rest(client, file, part, report)
                reason = "the response ends too early"
            except (_TransientError, httpx.TransportError) as error:
                reason = str(error) or type(error).__name__
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise DownloadError(f"cannot download {file.url}: {error}") from error
            # Only more bytes than ever before count, or a server could keep us busy for ever.
            if _size(part) > most:
                most, fruitless = _size(part), 0
                continue
            fruitless += 1
            if fruitless >= MAX_FRUITLESS_ATTEMPTS:
                raise DownloadError(
                    f"cannot download {file.url}: {reason}.\n{_size(part):,} of {file.size:,} "
                    "bytes are kept; run the command again to continue"
                )
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (fruitless - 1))


def _request_rest(
    client: httpx.Client, file: RemoteFile, part: Path, report: OnDownloadProgress
) -> None:
    """Request the bytes that `part` lacks, and append them to it."""
    n_bytes = _size(part)
    # Without a transfer encoding, which would break offsets and the checksum.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={n_bytes}-"} if n_bytes else {})
    with client.stream("GET", file.url, headers=headers) as response:
        status = f"HTTP {response.status_code} {response.reason_phrase}"
        if response.status_code in _TRANSIENT_STATUS:
            raise _TransientError(status)
        if response.status_code == 416:
            part.unlink(missing_ok=True)
            raise _TransientError("the server refuses to continue the download")
        if response.status_code not in (200, 206):
            raise DownloadError(f"cannot download {file.url}: {status}")
        start, total = _start_and_total(response)
        _refuse_other_file(response, total, file)
        if start not in (0, n_bytes):
            part.unlink(missing_ok=True)
            raise _TransientError("the server sent another range than requested")
        report(start, file.size)
        n_bytes = start
        with open(part, "ab" if start else "wb") as out:
            # Chunks as they arrive: a larger chunk would be lost when the connection breaks.
            for chunk in response.iter_raw():
                n_bytes += len(chunk)
                if n_bytes > file.size:
                    break
                out.write(chunk)
                report(n_bytes, file.size)
    if n_bytes > file.size:
        part.unlink()
        raise DownloadError(f"{file.url} sent another file: more than {file.size:,} bytes")


def _start_and_total(response: httpx.Response) -> tuple[int, int | None]:
    """First byte of a response, -1 if unknown, and the size of the whole file, if stated."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    content_range = response.headers.get("Content-Range", "").strip()
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _refuse_other_file(response: httpx.Response, total: int | None, file: RemoteFile) -> None:
    """Refuse a response that is clearly another file before received bytes are overwritten."""
    is_page = response.headers.get("Content-Type", "").startswith("text/html")
    if total == file.size or (total is None and not is_page):
        return
    kind = "a web page (is it the login of a network or proxy?)" if is_page else "another file"
    size = "" if total is None else f", {total:,} bytes instead of {file.size:,}"
    raise DownloadError(f"{file.url} sent {kind}{size}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
