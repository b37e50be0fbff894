"""Load generator: clients of the service with one pending request each, in their own process.

    python -m benchmarks.serve.load_generator < plan.json > result.json

It shares the processor with the service, so it does little work: it has one thread, the kernel
copies prepared requests from files to sockets, and answers are compared as they arrive. It connects
only to loopback addresses and stops by itself. `Plan` describes its input, `Result` its output.
"""

from __future__ import annotations

import ipaddress
import json
import os
import selectors
import socket
import sys
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

RECEIVE_BYTES = 1 << 16
HEAD_END = b"\r\n\r\n"
REFUSALS = (429, 503)
# A refused client waits for the time in Retry-After, but no longer than this.
LONGEST_PAUSE_SECONDS = 1.0
CONNECT_SECONDS = 5.0
N_FAILURES_KEPT = 5


@dataclass(frozen=True)
class Plan:
    """The load to generate.

    Attributes:
        host, port: loopback address of the service.
        requests: files with one whole request each, headers and body.
        expected: for each request, the (index, score) pairs of the best tags, and a few more.
        tolerance: largest accepted difference of a score.
        n_tags: number of tags in a correct answer.
        n_clients: number of clients, each with one persistent connection.
        warm_up_seconds, seconds: duration before the measurement, and of the measurement.
        timeout_seconds: an answer that takes longer counts as lost.
        max_requests: largest number of requests to start.
    """

    host: str
    port: int
    requests: Sequence[str]
    expected: Sequence[Sequence[tuple[int, float]]]
    tolerance: float
    n_tags: int
    n_clients: int
    seconds: float
    warm_up_seconds: float = 1.0
    timeout_seconds: float = 90.0
    max_requests: int = 1_000_000

    def __post_init__(self) -> None:
        if not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError(f"host must be a loopback address. Received: {self.host}")


@dataclass
class Result:
    """The result of a plan.

    Attributes:
        right, wrong, refused, lost: number of requests by outcome; a refusal is a valid 429 or 503.
        answered: number of correct answers within the measured time.
        seconds: duration of the measurement.
        latencies_ms: latencies of correct answers to requests that started within it.
        largest_difference: largest difference of a score in a correct answer from the expected one.
        cpu_share: share of one core that this process used during the measurement.
        failures: descriptions of the first wrong or lost answers.
    """

    right: int = 0
    wrong: int = 0
    refused: int = 0
    lost: int = 0
    answered: int = 0
    seconds: float = 0.0
    latencies_ms: array[float] = field(default_factory=lambda: array("d"))
    largest_difference: float = 0.0
    cpu_share: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add_failure(self, description: str) -> None:
        """Keep a description of a failure, unless there are enough."""
        if len(self.failures) < N_FAILURES_KEPT:
            self.failures.append(description[:300])


@dataclass(frozen=True)
class Answer:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """A connection and its pending request."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.socket: socket.socket | None = None
        self.request = 0
        self.file = -1
        self.sent = self.size = 0
        self.was_cut_off = False
        self.started = 0.0
        self.received = bytearray()
        self.answer_size = 0

    def begin(self, request: int, file: int, size: int, now: float) -> None:
        """Start a request: connect if necessary, and send as much as the kernel accepts."""
        self.request, self.file, self.size = request, file, size
        self.sent, self.started, self.answer_size = 0, now, 0
        self.was_cut_off = False
        self.received.clear()
        if self.socket is None:
            self.socket = socket.create_connection(self.address, CONNECT_SECONDS)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.setblocking(False)
        self.send()

    @property
    def is_sending(self) -> bool:
        """Whether a part of the request remains to be sent, and the service still accepts it."""
        return self.sent < self.size and not self.was_cut_off

    def send(self) -> None:
        """Send as much as the kernel accepts."""
        assert self.socket is not None
        while self.is_sending:
            try:
                self.sent += os.sendfile(
                    self.socket.fileno(), self.file, self.sent, self.size - self.sent
                )
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                # The service stopped reading; its answer may be available.
                self.was_cut_off = True

    def receive(self) -> Answer | None:
        """Receive data; return the answer once it is complete.

        Raises:
            OSError: the connection broke or was closed early.
        """
        assert self.socket is not None
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the connection was closed without an answer")
        self.received += data
        if not self.answer_size:
            end = self.received.find(HEAD_END)
            if end < 0:
                return None
            length = _headers(bytes(self.received[:end]))[1].get("content-length", "0")
            self.answer_size = end + len(HEAD_END) + int(length)
        if len(self.received) < self.answer_size:
            return None
        head, body = bytes(self.received).split(HEAD_END, 1)
        return Answer(*_headers(head), body)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def _headers(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


class Load:
    """All clients of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.result = Result()
        self.files = [os.open(path, os.O_RDONLY) for path in plan.requests]
        self.sizes = [os.fstat(file).st_size for file in self.files]
        self.selector = selectors.DefaultSelector()
        self.paused: list[tuple[float, Client]] = []
        self.busy: set[Client] = set()
        self.n_begun = 0
        self.begin_at = self.end_at = 0.0

    def run(self) -> Result:
        """Generate the load until the last answer, and return the result."""
        address = (self.plan.host, self.plan.port)
        self.begin_at = time.perf_counter() + self.plan.warm_up_seconds
        self.end_at = self.begin_at + self.plan.seconds
        for _ in range(self.plan.n_clients):
            self._begin(Client(address))
        cpu_before: float | None = None
        last_look = cpu_after = 0.0
        while self.busy or self.paused:
            for key, events in self.selector.select(self._select_timeout()):
                self._serve(key.data, events)
            now = time.perf_counter()
            if cpu_before is None and now >= self.begin_at:
                cpu_before = time.process_time()
            if now < self.end_at:
                cpu_after = time.process_time()
            for client in [client for at, client in self.paused if at <= now]:
                self.paused = [entry for entry in self.paused if entry[1] is not client]
                self._begin(client)
            if now - last_look > 1:
                last_look = now
                self._give_up(now)
        self.result.seconds = self.plan.seconds
        if cpu_before is not None:
            self.result.cpu_share = max(0.0, cpu_after - cpu_before) / self.plan.seconds
        for file in self.files:
            os.close(file)
        return self.result

    def _begin(self, client: Client) -> None:
        now = time.perf_counter()
        if now >= self.end_at or self.n_begun >= self.plan.max_requests:
            client.close()
            return
        request = self.n_begun % len(self.files)
        self.n_begun += 1
        try:
            client.begin(request, self.files[request], self.sizes[request], now)
        except OSError as error:
            self._lose(client, f"failed to send: {error!r}")
            return
        self.busy.add(client)
        self._watch(client)

    def _watch(self, client: Client) -> None:
        assert client.socket is not None
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.is_sending else 0)
        try:
            if self.selector.get_key(client.socket).events != events:
                self.selector.modify(client.socket, events, client)
        except KeyError:
            self.selector.register(client.socket, events, client)

    def _serve(self, client: Client, events: int) -> None:
        try:
            # A refusal may arrive before the whole request is sent.
            answer = client.receive() if events & selectors.EVENT_READ else None
        except OSError as error:
            self._lose(client, f"after {client.sent} of {client.size} bytes: {error!r}")
            return
        if answer is not None:
            self._end(client, answer)
        elif events & selectors.EVENT_WRITE:
            client.send()
            self._watch(client)

    def _end(self, client: Client, answer: Answer) -> None:
        now = time.perf_counter()
        is_closed = answer.headers.get("connection", "").lower() == "close"
        self._free(client, close=is_closed or client.sent < client.size)
        result, pause = self.result, 0.0
        if answer.status in REFUSALS and (fault := refusal_fault(answer)) == "":
            result.refused += 1
            pause = min(float(answer.headers["retry-after"]), LONGEST_PAUSE_SECONDS)
        elif answer.status in REFUSALS:
            result.wrong += 1
            result.add_failure(fault)
        else:
            self._check(client, answer, now)
        if pause:
            self.paused.append((now + pause, client))
        else:
            self._begin(client)

    def _check(self, client: Client, answer: Answer, now: float) -> None:
        result, expected = self.result, self.plan.expected[client.request]
        difference = tags_difference(answer, expected, self.plan.n_tags)
        if difference > self.plan.tolerance:
            result.wrong += 1
            result.add_failure(f"{answer.status}, off by {difference:.4g}: {answer.body[:200]!r}")
            return
        result.right += 1
        result.largest_difference = max(result.largest_difference, difference)
        if self.begin_at <= now < self.end_at:
            result.answered += 1
        if client.started >= self.begin_at:  # includes slow answers that arrive after the end
            result.latencies_ms.append(round(1e3 * (now - client.started), 3))

    def _lose(self, client: Client, reason: str) -> None:
        self.result.lost += 1
        self.result.add_failure(reason)
        self._free(client, close=True)
        self.paused.append((time.perf_counter() + LONGEST_PAUSE_SECONDS, client))

    def _free(self, client: Client, *, close: bool) -> None:
        self.busy.discard(client)
        if close and client.socket is not None:
            if client.socket in self.selector.get_map():
                self.selector.unregister(client.socket)
            client.close()

    def _give_up(self, now: float) -> None:
        for client in list(self.busy):
            if now - client.started > self.plan.timeout_seconds:
                self._lose(client, f"no answer in {self.plan.timeout_seconds:g} s")

    def _select_timeout(self) -> float:
        """Return the seconds until the next paused client resumes, at most 1."""
        now = time.perf_counter()
        return max(0.0, min([1.0, *(at - now for at, _ in self.paused)]))


def refusal_fault(answer: Answer) -> str:
    """Describe why a 429 or 503 is not a valid refusal; "" if it is."""
    try:
        if float(answer.headers["retry-after"]) < 0:
            raise ValueError
        problem = json.loads(answer.body)
        is_complete = problem["status"] == answer.status and problem["type"] and problem["detail"]
    except (KeyError, ValueError, TypeError):
        is_complete = False
    is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
    if is_complete and is_problem:
        return ""
    return f"{answer.status} without Retry-After or problem document: {answer.body[:200]!r}"


def tags_difference(answer: Answer, expected: Sequence[tuple[int, float]], n_tags: int) -> float:
    """Return the largest score difference from the expected tags; infinity if they do not match.

    Tags with nearly equal scores may be in a different order.
    """
    try:
        if answer.status != 200:
            return float("inf")
        tags = [(tag["index"], tag["score"]) for tag in json.loads(answer.body)["tags"]]
    except (ValueError, KeyError, TypeError):
        return float("inf")
    scores = dict(expected)
    if len(tags) != n_tags or any(index not in scores for index, _ in tags):
        return float("inf")
    by_class = (abs(score - scores[index]) for index, score in tags)
    by_place = (abs(score - best) for (_, score), (_, best) in zip(tags, expected, strict=False))
    return float(max(*by_class, *by_place))


def main() -> None:
    """Read a plan from standard input and print its result."""
    result = Load(Plan(**json.load(sys.stdin))).run()
    document: dict[str, Any] = {**asdict(result), "latencies_ms": list(result.latencies_ms)}
    json.dump(document, sys.stdout)


if __name__ == "__main__":
    main()
