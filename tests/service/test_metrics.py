"""Metrics and logs of one process and of several workers."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.logs import JsonFormatter, TextFormatter, configure, log, request_id
from service.metrics import Metrics, forget_worker, shared_between_workers
from service.settings.config import ServiceConfig
from tests.support.paths import ROOT
from vggish.params import VERSION

Samples = dict[tuple[str, tuple[str, ...]], float]


def samples_of(text: bytes) -> Samples:
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_recorded_values_are_rendered() -> None:
    metrics = Metrics(ServiceConfig())
    metrics.request("/classify", "POST", 200, 0.3)
    metrics.request("/classify", "POST", 200, 0.003)
    metrics.request("/classify", "POST", 413, 0.01)
    metrics.errors.labels("too-large").inc()
    for stage in ("decode", "front_end", "embed", "head"):
        metrics.stage_seconds.labels(stage).observe(0.02)
    metrics.batch(32, 3)
    metrics.batch(10, 1)
    metrics.audio_seconds.inc(9.6)
    metrics.audio_seconds.inc(0.4)
    metrics.reloads.labels("loaded").inc()
    metrics.queue_depth.set(7)
    metrics.in_flight.set(3)
    metrics.uploads.inc()
    metrics.streams.inc()
    metrics.streams.dec()
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=")
    found = samples_of(body)
    expected: Samples = {
        ("audiotag_requests_total", ("POST", "/classify", "200")): 2,
        ("audiotag_requests_total", ("POST", "/classify", "413")): 1,
        ("audiotag_request_seconds_count", ("POST", "/classify")): 3,
        ("audiotag_request_seconds_bucket", ("0.005", "POST", "/classify")): 1,
        ("audiotag_request_seconds_bucket", ("0.25", "POST", "/classify")): 2,
        ("audiotag_request_seconds_bucket", ("+Inf", "POST", "/classify")): 3,
        ("audiotag_errors_total", ("too-large",)): 1,
        ("audiotag_stage_seconds_count", ("front_end",)): 1,
        ("audiotag_batch_patches_sum", ()): 42,
        ("audiotag_batch_patches_bucket", ("16.0",)): 1,
        ("audiotag_batch_requests_sum", ()): 4,
        ("audiotag_audio_seconds_total", ()): 10,
        ("audiotag_reloads_total", ("loaded",)): 1,
        ("audiotag_queue_depth", ()): 7,
        ("audiotag_in_flight", ()): 3,
        ("audiotag_uploads", ()): 1,
        ("audiotag_streams", ()): 0,
        ("audiotag_build_info", (VERSION,)): 1,
    }
    assert {key: found[key] for key in expected} == expected
    assert found[("process_resident_memory_bytes", ())] > 0


def test_every_metric_is_documented() -> None:
    text = (ROOT / "docs" / "service.md").read_text("utf-8")
    families = text_string_to_metric_families(Metrics(ServiceConfig()).render()[0].decode())
    for family in families:
        if not family.name.endswith("_created") and not family.name.startswith("process_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert f"| `{name}` | {family.type} |" in text


def test_two_services_in_one_process_have_separate_metrics() -> None:
    one, two = Metrics(ServiceConfig()), Metrics(ServiceConfig())
    one.audio_seconds.inc(5)
    assert samples_of(two.render()[0])[("audiotag_audio_seconds_total", ())] == 0


def test_threads_lose_no_counts() -> None:
    metrics = Metrics(ServiceConfig())

    def count() -> None:
        for _ in range(1000):
            metrics.batch(4, 1)
            metrics.request("/classify", "POST", 200, 0.1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = samples_of(metrics.render()[0])
    assert found[("audiotag_batch_patches_count", ())] == 4000
    assert found[("audiotag_requests_total", ("POST", "/classify", "200"))] == 4000


def test_without_the_shared_directory_a_worker_renders_its_own_metrics() -> None:
    metrics = Metrics(ServiceConfig(workers=2))
    metrics.queue_depth.set(3)
    assert samples_of(metrics.render()[0])[("audiotag_queue_depth", ())] == 3


WORKER = """
import sys
from service.settings.config import ServiceConfig
from service.metrics import Metrics
metrics = Metrics(ServiceConfig(workers=2))
for line in sys.stdin:
    exec(line)
    print(metrics.render()[0].decode().replace("\\n", ";"), flush=True)
"""


@pytest.fixture
def start_worker() -> Iterator[Callable[[], Callable[[str], Samples]]]:
    """Start processes with metrics; each can be sent statements to run."""
    started: list[subprocess.Popen[str]] = []

    def start() -> Callable[[str], Samples]:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ.copy(),
        )
        started.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(statement: str) -> Samples:
            stdin.write(statement + "\n")
            stdin.flush()
            return samples_of(stdout.readline().replace(";", "\n").encode())

        run.process = process  # type: ignore[attr-defined]
        return run

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_metrics_of_workers_are_summed_and_gauges_of_dead_workers_dropped(
    start_worker: Callable[[], Callable[[str], Samples]], tmp_path: Path
) -> None:
    with shared_between_workers(tmp_path) as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        one, two = start_worker(), start_worker()
        one("metrics.audio_seconds.inc(5); metrics.queue_depth.set(3); metrics.batch(8, 2)")
        found = two(
            "metrics.audio_seconds.inc(2); metrics.queue_depth.set(4); metrics.batch(64, 5)"
        )
        assert one("pass") == found
        assert found[("audiotag_audio_seconds_total", ())] == 7
        assert found[("audiotag_queue_depth", ())] == 7
        assert found[("audiotag_batch_patches_bucket", ("16.0",))] == 1
        assert found[("audiotag_batch_patches_count", ())] == 2
        assert found[("audiotag_build_info", (VERSION,))] == 1
        one.process.kill()  # type: ignore[attr-defined]
        one.process.wait()  # type: ignore[attr-defined]
        forget_worker(one.process.pid, directory)  # type: ignore[attr-defined]
        found = two("pass")
        assert found[("audiotag_audio_seconds_total", ())] == 7
        assert found[("audiotag_queue_depth", ())] == 4
        three = start_worker()
        assert three("metrics.audio_seconds.inc(1)")[("audiotag_audio_seconds_total", ())] == 8
    assert not directory.exists()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


def test_the_metrics_directory_is_in_shared_memory(tmp_path: Path) -> None:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no shared memory here")
    with shared_between_workers(tmp_path) as directory:
        assert directory.parent == Path("/dev/shm")


def test_without_shared_memory_the_metrics_directory_is_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.metrics._SHARED_MEMORY", tmp_path / "none")
    with shared_between_workers(tmp_path) as directory:
        assert directory.parent == tmp_path


# --- the log -----------------------------------------------------------------------------


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., list[str]]]:
    """Return the lines logged with the given settings."""
    names = ("", "audiotag", "uvicorn", "uvicorn.error", "uvicorn.asgi")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    capfd.readouterr()

    def lines(**settings: Any) -> list[str]:
        if settings:
            configure(ServiceConfig(**settings))
            return []
        return capfd.readouterr().err.splitlines()

    yield lines
    logging.captureWarnings(False)
    for each, handlers, level, propagate in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


def test_json_lines_have_time_level_message_request_and_extras(
    logged: Callable[..., list[str]],
) -> None:
    logged(log_format="auto")  # stderr is not a terminal
    token = request_id.set("r1")
    log.info("done\n", extra={"seconds": 0.5, "path": Path("/x"), "text": "a\nb\u2028"})
    request_id.reset(token)
    log.warning("%d of %d", 1, 2)
    log.debug("too much")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed", extra={"request_id": "r2"})
    first, second, third = map(json.loads, logged())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "audiotag.service",
        "message": "done",
        "request_id": "r1",
        "seconds": 0.5,
        "path": "/x",
        "text": "a\nb\u2028",
    }
    assert second["message"] == "1 of 2"
    assert "request_id" not in second
    assert third["request_id"] == "r2"
    assert "ValueError: why" in third["exception"]


def test_a_text_record_is_one_line_for_any_message(logged: Callable[..., list[str]]) -> None:
    logged(log_format="text", log_level="debug")
    log.debug("GET /%s", "a\nb\x1b[2J", extra={"client": "10.0.0.1\r\n"})
    (line,) = logged()
    assert line[8:] == " debug: GET /a\\nb\\x1b[2J  client=10.0.0.1\\r\\n"
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    assert logged()[-1] == "ValueError: why"


def test_log_level_is_applied(logged: Callable[..., list[str]]) -> None:
    logged(log_level="warning")
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)(level)
    assert [json.loads(line)["message"] for line in logged()] == ["warning", "error"]


def test_uvicorn_logs_in_our_format_without_repeating_events(
    logged: Callable[..., list[str]],
) -> None:
    logged(log_level="info")
    server = logging.getLogger("uvicorn.error")
    server.info("Started server process [%d]", 1)
    server.warning("Invalid HTTP request received.")
    server.warning("Unsupported upgrade request.")  # ignored: the request is answered
    known = ValueError("logged already")
    known._audiotag_logged = True  # type: ignore[attr-defined]
    for error in (known, ValueError("not logged yet")):
        server.error("Exception in ASGI application\n", exc_info=error)
    logging.getLogger("asyncio").error("of another library")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("a warning", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    lines = [json.loads(line) for line in logged()]
    assert [line["message"].split("\n")[0][-20:] for line in lines[:3]] == [
        "TP request received.",
        "ion in ASGI application"[-20:],
        "of another library",
    ]
    assert "not logged yet" in lines[1]["exception"]
    assert "a warning" in lines[3]["message"]
    assert len(lines) == 4


def test_logs_are_text_on_a_terminal_and_json_in_a_file(
    monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    for is_terminal, kind in ((True, TextFormatter), (False, JsonFormatter)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_terminal=is_terminal: is_terminal)
        configure(ServiceConfig())
        assert isinstance(logging.getLogger().handlers[0].formatter, kind)
