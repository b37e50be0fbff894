"""The server in its own processes: starting, stopping, failing, signals and workers."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from audiotag.commands.serve import REQUIRED
from service.metrics import shared_between_workers
from service.server import sockets
from service.server.serve import serve
from service.settings.config import ServiceConfig
from tests.support.paths import ROOT
from tests.support.serving import wait_until
from vggish.errors import ListenError
from vggish.params import VERSION

PATIENCE_SECONDS = 60.0

PROGRAM = """
import functools, sys
from service.settings.config import ServiceConfig
from service.server.serve import serve
from tests.support.service_apps import process_app
from vggish.errors import BundleError
if __name__ == "__main__":
    config = ServiceConfig(**{settings!r})
    sys.exit(serve(config, functools.partial(process_app, {more})))
"""


class Service:
    """A service in its own process, and the lines it has written so far."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            for line in list(self.lines):
                found = re.search(pattern, line)
                if found:
                    return found
            if self.process.poll() is not None:
                self._reader.join(5)
                break
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} in {self.lines}")

    @property
    def url(self) -> str:
        return self.wait_for(r"listening on (http://\S+)/ ")[1]

    def ask(self, seconds: float = 0, path: str = "/", until: Path | str = "") -> httpx.Response:
        """Send a request; the response takes some seconds once the file `until` exists."""
        options = {"seconds": str(seconds), "until": str(until)}
        return httpx.get(f"{self.url}{path}", params=options, timeout=PATIENCE_SECONDS)

    def wait_until_asked(self, n: int = 1) -> None:
        """Wait until the application has received n requests."""
        wait_until(lambda: self.lines.count("asked") == n)

    def refuses(self) -> bool:
        """Whether the service refuses connections."""
        try:
            self.ask()
        except httpx.TransportError:
            return True
        return False

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the process to exit; return its status."""
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(5)
        return status

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def pids(self, n: int) -> dict[int, dict[str, Any]]:
        """Send requests until `n` processes have responded; return the last response of each."""
        found: dict[int, dict[str, Any]] = {}
        end = time.monotonic() + PATIENCE_SECONDS
        while len(found) < n and time.monotonic() < end:
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                for answer in pool.map(self.ask, [0.05] * 8):
                    found[answer.json()["pid"]] = answer.json()
        return found


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    """Start a service with the given settings and startup behaviour."""
    started: list[Service] = []

    def run(more: str = "", **settings: Any) -> Service:
        program = PROGRAM.format(settings={"port": 0, **settings}, more=more)
        started.append(Service("-c", program))
        return started[-1]

    yield run
    for service in started:
        service.close()


# Lines written by the application.
MARKS = ("made", "starting", "asked", "closed")

both = pytest.mark.parametrize("workers", [1, 2])


# --- starting and stopping -----------------------------------------------------------------


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_service_prints_its_address_responds_and_stops_on_a_signal(
    workers: int, number: int, start: Callable[..., Service]
) -> None:
    service = start(workers=workers)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", service.url)
    said = service.ask().json()
    assert (said["pid"] == service.process.pid) is (workers == 1)
    assert (said["counts"] is not None) is (workers > 1)
    service.signal(number)
    assert service.end() == 0
    assert service.lines.count("closed") == workers
    with pytest.raises(httpx.ConnectError):
        service.ask()
    if said["counts"]:
        assert not os.path.exists(said["counts"])
    told = [line for line in service.lines if line not in MARKS]
    assert [line for line in told if not line.startswith("{")] == [
        f"audiotag: listening on {service.url}/ (the page)"
    ]
    messages = [json.loads(line)["message"] for line in told if line.startswith("{")]
    assert messages.count("stopped") == workers
    assert messages.count("stopping") == (workers == 1)
    assert not [line for line in messages if "Traceback" in line]


@both
def test_running_requests_are_answered_before_shutdown(
    workers: int, start: Callable[..., Service], tmp_path: Path
) -> None:
    service = start(workers=workers)
    assert service.url
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(service.ask, until=tmp_path / "go") for _ in range(12)]
        service.wait_until_asked(12)
        service.signal(signal.SIGTERM)
        wait_until(service.refuses)
        assert service.process.poll() is None
        (tmp_path / "go").touch()
        said = [answer.result() for answer in answers]
    assert {answer.status_code for answer in said} == {200}
    assert service.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_process_group_counts_once(
    number: int, start: Callable[..., Service], tmp_path: Path
) -> None:
    service = start(workers=2)
    assert service.url
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.ask, until=tmp_path / "go")
        service.wait_until_asked()
        os.killpg(service.process.pid, number)
        wait_until(service.refuses)
        (tmp_path / "go").touch()
        assert answer.result().status_code == 200
    assert service.end() == 0


@both
def test_request_longer_than_shutdown_seconds_gets_a_problem(
    workers: int, start: Callable[..., Service]
) -> None:
    service = start(workers=workers, shutdown_seconds=1.0)
    assert service.url
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.ask, 40)
        service.wait_until_asked()
        service.signal(signal.SIGTERM)
        problem = answer.result()
    assert problem.status_code == 503
    assert problem.json()["type"] == "/problems/not-ready"
    assert problem.headers["retry-after"]
    assert service.end() == 0
    assert not [line for line in service.lines if "Traceback" in line]


@both
def test_second_interrupt_stops_the_service_at_once(
    workers: int, start: Callable[..., Service]
) -> None:
    service = start(workers=workers, shutdown_seconds=100)
    assert service.url
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.ask, 40)
        service.wait_until_asked()
        os.killpg(service.process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
        wait_until(service.refuses)
        assert service.process.poll() is None
        began = time.monotonic()
        os.killpg(service.process.pid, signal.SIGINT)
        status = service.end()
        assert time.monotonic() - began < 30
        with contextlib.suppress(httpx.TransportError):
            assert answer.result().status_code == 503
    # The supervisor of the workers does not notice the second interrupt.
    assert status == (1 if workers == 1 else 0)
    assert "closed" in service.lines


@both
def test_signal_at_startup_stops_the_service(workers: int, start: Callable[..., Service]) -> None:
    service = start("start_seconds=1.5", workers=workers)
    service.wait_for("starting")
    service.signal(signal.SIGTERM)
    assert service.end() == 0
    assert not [line for line in service.lines if "listening" in line]


def test_streams_are_closed_at_shutdown(start: Callable[..., Service]) -> None:
    service = start()
    with connect(service.url.replace("http", "ws") + "/stream") as stream:
        service.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as caught:
            stream.recv(timeout=20)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1012
    assert service.end() == 0


def test_a_refused_stream_is_not_logged_as_an_error(
    start: Callable[..., Service],
) -> None:
    service = start()
    url = service.url.replace("http", "ws")
    with pytest.raises(InvalidStatus) as caught:
        connect(f"{url}/stream", additional_headers={"Origin": "http://evil.example"})
    assert caught.value.response.status_code == 403
    service.signal(signal.SIGTERM)
    assert service.end() == 0
    assert not [line for line in service.lines if '"error"' in line]


# --- workers -------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced(start: Callable[..., Service]) -> None:
    service = start(workers=2)
    before = service.pids(2)
    counts = Path(next(iter(before.values()))["counts"])
    victim = min(before)
    wait_until(lambda: len(list(counts.glob("gauge_livesum_*.db"))) == 2)
    os.kill(victim, signal.SIGKILL)
    service.wait_for(rf"Child process \[{victim}\] died")
    (survivor,) = set(before) - {victim}
    after = service.pids(2)
    assert survivor in after
    assert victim not in after
    # The gauges of the dead worker are gone.
    assert "audiotag_streams 2.0" in service.ask(path="/metrics").text
    service.signal(signal.SIGTERM)
    assert service.end() == 0


def test_a_connection_waits_for_a_new_worker(start: Callable[..., Service]) -> None:
    service = start(workers=2)
    before = service.pids(2)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    answer = service.ask().json()
    assert answer["pid"] not in before


@both
def test_sighup_reaches_every_process_and_stops_none(
    workers: int, start: Callable[..., Service]
) -> None:
    service = start(workers=workers)
    before = service.pids(workers)
    service.signal(signal.SIGHUP)
    wait_until(lambda: all(said["hangups"] == 1 for said in service.pids(workers).values()))
    assert set(service.pids(workers)) == set(before)


def test_workers_stop_when_their_supervisor_is_killed(
    start: Callable[..., Service], tmp_path: Path
) -> None:
    service = start(workers=2)
    pids = service.pids(2)
    counts = Path(next(iter(pids.values()))["counts"])
    service.process.kill()

    def are_gone() -> bool:
        return not any(Path(f"/proc/{pid}/cmdline").exists() and _runs(pid) for pid in pids)

    wait_until(are_gone)
    os.utime(counts / "lock", (0, 0))  # the lock is old, so the directory is not being created
    with shared_between_workers(tmp_path):  # as the next service does
        assert not counts.exists()


def _runs(pid: int) -> bool:
    """Whether a process is running and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False


# --- with the tagger -------------------------------------------------------------------------


@pytest.fixture
def audiotag() -> Iterator[Callable[..., Service]]:
    """Start `audiotag serve` itself."""
    started: list[Service] = []

    def run(*flags: str) -> Service:
        started.append(Service("-m", "cli", "serve", "--port", "0", *flags))
        return started[-1]

    yield run
    for service in started:
        service.close()


@both
def test_shutdown_under_load_loses_no_clip(
    workers: int, audiotag: Callable[..., Service], write_sound: Callable[..., Path]
) -> None:
    sound = write_sound("long.wav", seconds=60.0, rate_hz=44_100).read_bytes()
    service = audiotag("--workers", str(workers))
    url = f"{service.url}/classify"

    sent: list[int] = []

    def pieces(n: int) -> Iterator[bytes]:
        for start in range(0, len(sound), 1 << 16):
            yield sound[start : start + (1 << 16)]
        sent.append(n)

    def classify(n: int) -> httpx.Response:
        headers = {"Content-Type": "audio/wav"}
        return httpx.post(url, content=pieces(n), headers=headers, timeout=PATIENCE_SECONDS)

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(classify, n) for n in range(12)]
        wait_until(lambda: len(sent) == 12)
        service.signal(signal.SIGTERM)
        said = [answer.result() for answer in answers]
    assert [answer.status_code for answer in said] == [200] * 12
    assert {len(answer.json()["tags"]) for answer in said} == {10}
    assert service.end() == 0
    with pytest.raises(httpx.TransportError):
        classify(0)
    assert not [line for line in service.lines if "rror" in line.replace("uvicorn.error", "")]


def test_unfinished_upload_gets_a_problem_at_shutdown(
    audiotag: Callable[..., Service],
) -> None:
    service = audiotag("--shutdown-seconds", "1")
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as client:
        head = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: audio/wav\r\n"
        client.sendall(head + b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
        assert b"100 Continue" in client.recv(4096)  # the upload is being received
        client.sendall(b"RIFF")
        service.signal(signal.SIGTERM)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert b" 503 " in answer.splitlines()[0]
    assert b"/problems/not-ready" in answer
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert service.end() == 0
    assert not [line for line in service.lines if "Traceback" in line]


def test_service_is_ready_once_it_prints_its_address(
    audiotag: Callable[..., Service],
) -> None:
    service = audiotag("--log-level", "debug")
    assert httpx.get(f"{service.url}/readyz").json() == {"status": "ready"}
    assert httpx.get(f"{service.url}/version").json()["version"] == VERSION
    assert "script-src 'self'" in httpx.get(f"{service.url}/").headers["content-security-policy"]
    text = httpx.get(f"{service.url}/metrics").text
    assert 'audiotag_requests_total{method="GET",route="/readyz",status="200"} 1.0' in text
    service.signal(signal.SIGHUP)
    assert httpx.get(f"{service.url}/healthz").status_code == 200
    service.signal(signal.SIGINT)
    assert service.end() == 0


@both
def test_unknown_model_is_one_error_line(workers: int, audiotag: Callable[..., Service]) -> None:
    service = audiotag("--models", "nothing-of-the-kind", "--workers", str(workers))
    assert service.end() == 1
    errors = [line for line in service.lines if line.startswith("audiotag: error: ")]
    assert len(errors) == 1
    assert "nothing-of-the-kind" in errors[0]
    assert not [line for line in service.lines if "Traceback" in line]


# --- startup errors ------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@both
def test_port_in_use_is_reported_before_models_are_loaded(
    workers: int, taken: int, start: Callable[..., Service]
) -> None:
    service = start(port=taken, workers=workers)
    assert service.end() == 1
    (line,) = service.lines
    assert line.startswith(f"audiotag: error: cannot listen on port {taken} of 127.0.0.1: another")
    assert "--port 0" in line


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no-such-host.invalid", "nor a known name"),
        ("256.1.1.1", "nor a known name"),
        ("192.0.2.1", "this machine has no such address"),
        ("a" * 300, "nor a known name"),
    ],
)
def test_an_unknown_host_is_reported(host: str, message: str) -> None:
    with pytest.raises(ListenError, match=message):
        sockets.listen(host, 0)


def test_a_forbidden_port_is_reported() -> None:
    first_free = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if os.geteuid() == 0 or not first_free.exists() or int(first_free.read_text()) < 2:
        pytest.skip("every port is permitted here")
    with pytest.raises(ListenError, match="does not permit"):
        sockets.listen("127.0.0.1", 1)


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_at_startup_is_reported_once(workers: int, start: Callable[..., Service]) -> None:
    service = start("failure=BundleError('the bundle is damaged')", workers=workers)
    assert service.end() == 1
    told = [line for line in service.lines if line not in MARKS and not line.startswith("{")]
    assert told == ["audiotag: error: the bundle is damaged"]
    logged = [json.loads(line) for line in service.lines if line.startswith("{")]
    assert not [line for line in logged if "exception" in line]


@both
def test_an_unexpected_error_at_startup_is_logged_with_its_traceback(
    workers: int, start: Callable[..., Service]
) -> None:
    service = start("failure=RuntimeError('a fault')", workers=workers)
    assert service.end() == 1
    logged = [json.loads(line) for line in service.lines if line.startswith("{")]
    (line,) = [line for line in logged if "exception" in line]
    assert line["level"] == "error"
    assert "RuntimeError: a fault" in line["exception"]


@pytest.mark.parametrize("package", REQUIRED)
def test_error_for_a_missing_package_has_the_pip_command(
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    command_line: Callable[..., tuple[int, str, str]],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    status, _, err = command_line("serve", "--port", "0")
    assert status == 2
    assert re.search(r"pip install .*'audiotag\[serve\]'", err)


# --- addresses -----------------------------------------------------------------------------


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")


@pytest.mark.parametrize(
    ("host", "reached", "page"),
    [
        ("127.0.0.1", ["127.0.0.1"], "127.0.0.1"),
        ("0.0.0.0", ["127.0.0.1"], "127.0.0.1"),
        ("localhost", ["127.0.0.1"], "localhost"),
        pytest.param("::1", ["::1"], "[::1]", marks=needs_ipv6),
        pytest.param("::", ["::1", "127.0.0.1"], "[::1]", marks=needs_ipv6),
    ],
)
def test_all_addresses_of_a_host_are_opened(host: str, reached: list[str], page: str) -> None:
    opened = sockets.listen(host, 0)
    try:
        port = opened[0].getsockname()[1]
        assert sockets.page_address(host, opened) == f"http://{page}:{port}/"
        for address in reached:
            socket.create_connection((address, port), timeout=5).close()
        assert len({each.getsockname()[1] for each in opened}) == 1
    finally:
        for each in opened:
            each.close()


@needs_ipv6
def test_ipv6_is_supported(start: Callable[..., Service]) -> None:
    service = start(host="::1")
    assert service.url.startswith("http://[::1]:")
    assert service.ask().status_code == 200


def test_listening_on_all_addresses_is_reported(start: Callable[..., Service]) -> None:
    service = start(host="0.0.0.0")
    service.wait_for(r"listening on http://127\.0\.0\.1:\d+/ \(the page\), and on all other")


@pytest.mark.parametrize(("asked", "n_cores", "n_workers"), [(0, 3, 3), (0, 1, 1), (2, 3, 2)])
def test_zero_workers_means_one_per_core(
    monkeypatch: pytest.MonkeyPatch, asked: int, n_cores: int, n_workers: int
) -> None:
    seen: list[int] = []

    class Server:
        """Records the number of workers instead of serving."""

        status, force_exit = 0, False

        def __init__(self, config: Any, *_: Any) -> None:
            seen.append(config.workers)

        def run(self, *_: Any) -> None:
            pass

    monkeypatch.setattr("service.server.serve.n_cores", lambda: n_cores)
    monkeypatch.setattr("service.server.serve._Supervisor", Server)
    monkeypatch.setattr("service.server.serve._Server", Server)
    monkeypatch.setattr("service.server.serve.configure", lambda config: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert serve(ServiceConfig(port=0, workers=asked)) == 0
    assert seen == [n_workers]
