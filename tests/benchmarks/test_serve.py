"""Tests of the service benchmark: outcomes counted by its clients, and its targets."""

from __future__ import annotations

import dataclasses
import http.server
import itertools
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serve.clips import CLIP_SECONDS, RATE_HZ, upload_request, write_clips
from benchmarks.serve.findings import SETUPS, WORKERS, Findings, Measured, SoakTest, percentile
from benchmarks.serve.load_generator import (
    Answer,
    Load,
    Plan,
    Result,
    refusal_fault,
    tags_difference,
)
from benchmarks.serve.serve import mean_batch_patches
from tests.support.paths import ROOT

TAGS = [{"index": 3, "score": 0.9}, {"index": 7, "score": 0.5}]
EXPECTED = [(3, 0.9), (7, 0.5), (8, 0.499)]
PROBLEM = {"type": "/problems/overloaded", "status": 503, "detail": "too much"}
PROBLEM_TYPE = "application/problem+json"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the server's function `answer`, which is called with the request's number."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        answer = self.server.answer(next(self.server.numbers))
        if answer is None:
            self.close_connection = True
            return
        if answer.status == 200:
            body = self.rfile.read(length)
            assert body.count(b"RIFF") == 1
        else:
            self.close_connection = True
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        pass


RIGHT = Answer(200, {}, json.dumps({"tags": TAGS}).encode())
WRONG = Answer(200, {}, json.dumps({"tags": [TAGS[0], {"index": 7, "score": 0.6}]}).encode())
REFUSED = Answer(
    503, {"Retry-After": "0", "Content-Type": PROBLEM_TYPE}, json.dumps(PROBLEM).encode()
)


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """Run a short load on a server with a given answer function."""
    (tmp_path / "a.http").write_bytes(upload_request("a.wav", b"RIFF" + bytes(300_000)))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.numbers = itertools.count(1)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(answer: Callable[[int], Answer | None], **changes: Any) -> Result:
        server.answer = answer
        plan = Plan(
            host="127.0.0.1",
            port=server.server_port,
            requests=[str(tmp_path / "a.http")],
            expected=[EXPECTED],
            tolerance=0.01,
            n_tags=2,
            n_clients=3,
            seconds=0.5,
            warm_up_seconds=0.1,
            timeout_seconds=30,
        )
        return Load(dataclasses.replace(plan, **changes)).run()

    yield run
    server.shutdown()
    server.server_close()


def test_correct_answers_are_counted_and_timed(load: Callable[..., Result]) -> None:
    found = load(lambda n: RIGHT, seconds=2)
    assert (found.wrong, found.refused, found.lost) == (0, 0, 0)
    assert 0 < found.answered <= found.right
    assert 0 < len(found.latencies_ms) <= found.right
    assert all(latency > 0 for latency in found.latencies_ms)


def test_answers_after_the_measurement_are_timed(load: Callable[..., Result]) -> None:
    def answer(n: int) -> Answer:
        time.sleep(1.0)
        return RIGHT

    found = load(answer, n_clients=1, warm_up_seconds=0)
    assert (found.right, found.answered) == (1, 0)
    assert found.latencies_ms[0] >= 1000


def test_every_request_has_one_outcome(load: Callable[..., Result]) -> None:
    answers = [RIGHT, WRONG, REFUSED, None]
    found = load(lambda n: answers[n % 4], max_requests=8, seconds=5)
    assert (found.right, found.wrong, found.refused, found.lost) == (2, 2, 2, 2)
    assert len(found.failures) == 4


def test_refusal_before_the_body_is_read_is_valid(load: Callable[..., Result]) -> None:
    found = load(lambda n: REFUSED, max_requests=6, seconds=5)
    assert (found.refused, found.lost) == (6, 0)


def test_missing_answer_counts_as_lost(load: Callable[..., Result]) -> None:
    over = threading.Event()

    def answer(n: int) -> Answer | None:
        over.wait(10)
        return None

    found = load(answer, max_requests=2, timeout_seconds=1.5)
    over.set()
    assert (found.right, found.lost) == (0, 2)
    assert "no answer in 1.5 s" in found.failures[0]


def test_only_loopback_addresses_are_accepted() -> None:
    with pytest.raises(ValueError, match="loopback"):
        Plan("192.0.2.1", 80, [], [], 0.0, 1, 1, 1.0)


@pytest.mark.parametrize(
    ("tags", "difference"),
    [
        ([(3, 0.9), (7, 0.5)], 0),
        ([(3, 0.8), (7, 0.5)], 0.1),
        ([(3, 0.9), (8, 0.499)], 0.001),  # nearly equal scores
        ([(3, 0.9)], math.inf),  # a missing tag
        ([(3, 0.9), (9, 0.5)], math.inf),  # a tag below the top tags
        ([(7, 0.5), (3, 0.9)], 0.4),  # the wrong order
    ],
)
def test_tags_are_compared_by_class_and_by_rank(
    tags: list[tuple[int, float]], difference: float
) -> None:
    body = {"tags": [{"index": index, "score": score} for index, score in tags]}
    answer = Answer(200, {}, json.dumps(body).encode())
    assert tags_difference(answer, EXPECTED, 2) == pytest.approx(difference)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": [1]}', b"\xff"])
def test_difference_of_an_invalid_answer_is_infinite(body: bytes) -> None:
    assert tags_difference(Answer(200, {}, body), EXPECTED, 2) == math.inf


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": PROBLEM_TYPE}, PROBLEM),
        ({"retry-after": "1", "content-type": "text/plain"}, PROBLEM),
        ({"retry-after": "1", "content-type": PROBLEM_TYPE}, {**PROBLEM, "status": 500}),
        ({"retry-after": "soon", "content-type": PROBLEM_TYPE}, PROBLEM),
        ({"retry-after": "1", "content-type": PROBLEM_TYPE}, []),
    ],
)
def test_refusal_needs_retry_after_and_problem_document(headers: dict[str, str], body: Any) -> None:
    assert refusal_fault(Answer(503, headers, json.dumps(body).encode())) != ""
    good = Answer(
        503, {"retry-after": "1", "content-type": PROBLEM_TYPE}, json.dumps(PROBLEM).encode()
    )
    assert refusal_fault(good) == ""


def test_clips_are_ten_seconds_and_distinct(tmp_path: Path) -> None:
    import soundfile

    paths = write_clips(tmp_path, 1)
    assert len(paths) >= 10
    clips = [soundfile.read(path) for path in paths]
    assert {rate_hz for _, rate_hz in clips} == {RATE_HZ}
    assert {waveform.shape for waveform, _ in clips} == {(RATE_HZ * CLIP_SECONDS,)}
    assert len({waveform.tobytes() for waveform, _ in clips}) == len(paths)
    assert all(np.abs(waveform).max() > 0.01 for waveform, _ in clips)


def result(rate: float, latencies_ms: list[float], **outcomes: int) -> dict[str, Any]:
    found = dataclasses.asdict(Result(answered=round(rate * 10), seconds=10, right=1))
    return {**found, "latencies_ms": latencies_ms, **outcomes}


def test_targets_are_compared_round_by_round() -> None:
    measured = Measured("mini", direct={1: [50, 25, 50], 2: [100, 50, 100]})
    # The machine runs at half speed for one round, which does not change the ratio.
    for n, rates in ((1, (30, 15, 30)), (4, (60, 30, 60)), (16, (79, 39.5, 79)), (64, (79,) * 3)):
        for setup in SETUPS:
            measured.served[setup, n] = [result(rate, [10.0] * 98 + [16.1] * 2) for rate in rates]
    measured.served[WORKERS, 64][1]["lost"] = 1
    assert measured.best_threads == 2
    assert measured.share_of_limit(WORKERS, 16) == pytest.approx(0.79)
    findings = Findings()
    findings.add(measured)
    assert {what.split(": ")[1] for what, *_, met in findings.targets if met != "yes"} == {
        "share of the limit",
        "p99 / p50",
        "answers",
    }
    assert [met for what, *_, met in findings.targets if "other runs" in what] == ["yes"]


def test_growing_memory_in_a_soak_test_misses_the_target() -> None:
    calm = result(10, [10.0] * 10)
    busy = result(90, [700.0] * 9)
    soak = SoakTest("soak", calm, busy, calm, [100, 100, 101, 101, 108, 108], 108)
    findings = Findings()
    findings.add_soak_test(soak)
    assert [(what.split(": ")[1], met) for what, *_, met in findings.targets] == [
        ("answers", "yes"),
        ("memory, last third / first", "**no**"),
        ("p50 of one client, after / before", "yes"),
    ]


def test_percentiles_are_measured_values() -> None:
    values = [float(value) for value in range(1, 201)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99)] == [100, 190, 198]
    assert percentile([7.0], 0.99) == 7


def test_mean_batch_is_read_from_the_metrics() -> None:
    text = "# TYPE x\naudiotag_batch_patches_sum 30.0\naudiotag_batch_patches_count 4.0\n"
    assert mean_batch_patches(text) == 7.5
    assert math.isnan(mean_batch_patches(""))


def test_setting_without_a_value_is_rejected() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve", "--set", "threads"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "NAME=VALUE. Received: 'threads'" in done.stderr
