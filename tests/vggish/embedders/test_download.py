"""Downloads: resuming, refusing wrong files, and errors."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.support.file_server import Answer, FileServer
from vggish.common.files import sha256_of
from vggish.embedders import download as download_module
from vggish.embedders.download import RemoteFile, check_file, download
from vggish.errors import DownloadError, WeightsError

CONTENT = np.random.default_rng(4).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "FIRST_PAUSE_SECONDS", 0.0)


class Site(NamedTuple):
    """A server, a file on it, and the directory to download it to."""

    server: FileServer
    file: RemoteFile
    directory: Path

    def download(self) -> Path:
        return download(self.file, self.directory)

    def arrived(self) -> bool:
        """Whether the directory holds the correct file and nothing else."""
        alone = [path.name for path in self.directory.iterdir()] == ["a.bin"]
        return alone and (self.directory / "a.bin").read_bytes() == CONTENT

    def bytes_sent(self) -> int:
        return sum(sent for _, _, sent in self.server.requests)

    @property
    def part(self) -> Path:
        return self.directory / "a.bin.part"


@pytest.fixture
def site(server: FileServer, tmp_path: Path) -> Site:
    server.files["a.bin"] = CONTENT
    return Site(server, RemoteFile("a.bin", server.url("a.bin"), len(CONTENT), SHA256), tmp_path)


def test_download_reports_progress_in_bytes(site: Site) -> None:
    seen: list[tuple[int, int]] = []
    path = download(
        site.file, site.directory / "new" / "directory", lambda *step: seen.append(step)
    )
    assert path.read_bytes() == CONTENT
    assert [path] == list(path.parent.iterdir())
    done = [step[0] for step in seen]
    assert done[0] == 0
    assert done[-1] == len(CONTENT)
    assert done == sorted(done)
    assert {step[1] for step in seen} == {len(CONTENT)}
    assert site.bytes_sent() == len(CONTENT)


def test_verified_file_is_not_downloaded_again(site: Site) -> None:
    (site.directory / "a.bin").write_bytes(CONTENT)
    assert site.download() == site.directory / "a.bin"
    assert site.server.requests == []


def test_wrong_file_under_the_final_name_is_replaced(site: Site) -> None:
    (site.directory / "a.bin").write_bytes(b"old")
    site.download()
    assert site.arrived()


@pytest.mark.parametrize("piece", [1_000, 100_000, 2_000_000])
def test_broken_connections_are_resumed_without_sending_bytes_twice(site: Site, piece: int) -> None:
    site.server.answers = [Answer(break_after=piece) for _ in range(5)]
    site.download()
    assert site.arrived()
    assert site.bytes_sent() == len(CONTENT)


def test_download_of_an_earlier_run_is_resumed(site: Site) -> None:
    site.part.write_bytes(CONTENT[:1_234_567])
    site.download()
    assert site.arrived()
    assert site.server.requests == [("a.bin", 1_234_567, len(CONTENT) - 1_234_567)]


@pytest.mark.parametrize(
    "refusal",
    [Answer(ranges=False), Answer(status=416), Answer(shift=7), Answer(headers=(("X", "y"),))],
    ids=["ignored", "416", "another range", "granted"],
)
def test_unexpected_responses_to_range_requests_are_handled(site: Site, refusal: Answer) -> None:
    site.server.answers = [Answer(break_after=1_000_000), refusal]
    site.download()
    assert site.arrived()


@pytest.mark.parametrize(
    "part",
    [b"x" * 1_000_000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1), CONTENT + b"x", b""],
    ids=["begun", "complete", "too long", "right but too long", "empty"],
)
def test_wrong_bytes_of_an_earlier_run_are_downloaded_again(site: Site, part: bytes) -> None:
    site.part.write_bytes(part)
    site.download()
    assert site.arrived()


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_transient_statuses_are_retried(site: Site, status: int) -> None:
    site.server.answers = [Answer(status), Answer(break_after=1_000_000), Answer(status)]
    site.download()
    assert site.arrived()
    assert site.bytes_sent() == len(CONTENT)


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_is_not_retried_and_the_error_has_the_url(site: Site, status: int) -> None:
    site.server.usual = Answer(status)
    with pytest.raises(DownloadError, match=f"{site.file.url}: HTTP {status} "):
        site.download()
    assert len(site.server.requests) == 1


def test_repeated_failures_end_the_download_and_keep_the_received_bytes(site: Site) -> None:
    site.server.answers, site.server.usual = [Answer(break_after=1_000_000)], Answer(503)
    with pytest.raises(
        DownloadError, match=r"HTTP 503(.|\n)*1,000,000 of 3,000,000 bytes are kept"
    ):
        site.download()
    assert len(site.server.requests) < 8
    assert site.part.read_bytes() == CONTENT[:1_000_000]
    site.server.usual = Answer()
    site.download()
    assert site.arrived()
    assert site.bytes_sent() == len(CONTENT)


@pytest.mark.parametrize("status", [200, 416])
def test_server_that_always_breaks_at_the_same_byte_ends_the_download(
    site: Site, status: int
) -> None:
    breaking = Answer(break_after=500_000, ranges=False)
    site.server.answers = [breaking, Answer(status, break_after=500_000, ranges=False)] * 20
    with pytest.raises(DownloadError, match="run the command again"):
        site.download()
    assert len(site.server.requests) < 12


def test_wrong_content_is_refused_and_deleted(site: Site) -> None:
    site.server.usual = Answer(body=b"x" * len(CONTENT))
    with pytest.raises(DownloadError, match=f"{site.file.url} sent another file(.|\n)*{SHA256}"):
        site.download()
    assert list(site.directory.iterdir()) == []


@pytest.mark.parametrize("length", [100, len(CONTENT) - 1, len(CONTENT) + 1])
def test_wrong_length_is_refused_and_keeps_the_received_bytes(site: Site, length: int) -> None:
    part = site.part
    part.write_bytes(CONTENT[:50])
    site.server.usual = Answer(body=b"x" * length)
    with pytest.raises(DownloadError, match=f"another file, {length:,} bytes instead of 3,000,000"):
        site.download()
    assert len(site.server.requests) == 1
    assert part.read_bytes() == CONTENT[:50]


@pytest.mark.parametrize("tell_length", [True, False])
def test_error_for_a_login_page_says_web_page(site: Site, tell_length: bool) -> None:
    page = (("Content-Type", "text/html; charset=utf-8"),)
    site.server.usual = Answer(body=b"<html>Please log in", headers=page, tell_length=tell_length)
    with pytest.raises(DownloadError, match=r"sent a web page \(is it the login"):
        site.download()
    assert list(site.directory.iterdir()) == []


def test_response_without_content_length_is_accepted(site: Site) -> None:
    site.server.usual = Answer(tell_length=False)
    site.download()
    assert site.arrived()


def test_response_longer_than_the_file_is_aborted(site: Site) -> None:
    site.server.usual = Answer(body=CONTENT * 5, tell_length=False)
    with pytest.raises(DownloadError, match="more than 3,000,000 bytes"):
        site.download()
    assert list(site.directory.iterdir()) == []


def test_redirect_is_followed_with_its_range(site: Site) -> None:
    site.part.write_bytes(CONTENT[:1_000])
    site.server.files["moved"] = CONTENT
    site.server.answers = [Answer(302, headers=(("Location", "/moved"),))]
    site.download()
    assert site.arrived()
    assert site.server.requests[-1] == ("moved", 1_000, len(CONTENT) - 1_000)


def test_redirect_loop_is_an_error(site: Site) -> None:
    site.server.usual = Answer(302, headers=(("Location", "/a.bin"),))
    with pytest.raises(DownloadError, match=f"cannot download {site.file.url}"):
        site.download()


def test_silent_server_times_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "TIMEOUT_SECONDS", 0.2)
    site.server.usual = Answer(pause_seconds=30)
    with pytest.raises(DownloadError, match=f"cannot download {site.file.url}: .*timed out"):
        site.download()


def test_slow_server_does_not_time_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "TIMEOUT_SECONDS", 0.5)
    site.server.usual = Answer(pause_seconds=0.02)  # 0.9 s in total
    site.download()
    assert site.arrived()


def test_unreachable_server_is_a_download_error(tmp_path: Path, server: FileServer) -> None:
    url = server.url("a.bin")
    server.close()
    with pytest.raises(DownloadError, match=f"cannot download {url}: .*refused"):
        download(RemoteFile("a.bin", url, 1, SHA256), tmp_path)


def test_unusable_proxy_is_a_download_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:70")
    with pytest.raises(DownloadError, match="proxy"):
        site.download()


def test_directory_that_cannot_be_created_is_a_download_error(site: Site) -> None:
    (site.directory / "file").write_text("")
    with pytest.raises(DownloadError, match=r"cannot write .*file"):
        download(site.file, site.directory / "file" / "directory")


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files the POSIX way")
def test_full_disk_is_a_download_error(site: Site) -> None:
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from vggish.embedders.download import RemoteFile, download\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "name, url, size, sha256, directory = sys.argv[1:]\n"
        "try: download(RemoteFile(name, url, int(size), sha256), Path(directory))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    arguments = [
        site.file.name,
        site.file.url,
        str(site.file.size),
        site.file.sha256,
        str(site.directory),
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith(f"DownloadError cannot write {site.directory}"), done
    assert not (site.directory / "a.bin").exists()
    site.download()
    assert site.arrived()
    assert site.server.requests[-1][1] > 900_000  # the download was resumed


def test_file_is_checked_by_size_and_sha256(site: Site) -> None:
    path = site.directory / "b.bin"
    with pytest.raises(WeightsError, match=r"b\.bin is not a\.bin: it is missing"):
        check_file(path, site.file)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"b.bin is not a.bin: it has 2,999,999 bytes"):
        check_file(path, site.file)
    path.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    with pytest.raises(WeightsError, match=f"not {SHA256}"):
        check_file(path, site.file)
    path.write_bytes(CONTENT)
    check_file(path, site.file)


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../a.bin"),
        ("name", ""),
        ("name", ".."),
        ("url", "ftp://host/a.bin"),
        ("url", "a.bin"),
        ("size", "3"),
        ("size", 0),
        ("sha256", SHA256.upper()),
        ("sha256", "abc"),
    ],
)
def test_invalid_remote_file_is_refused(field: str, value: Any) -> None:
    right = {"name": "a.bin", "url": "https://host/a.bin", "size": 3, "sha256": SHA256}
    RemoteFile(**right)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{field}.*Received"):
        RemoteFile(**{**right, field: value})  # type: ignore[arg-type]
