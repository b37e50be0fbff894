"""Hundreds of WebSocket conversations of random messages with a real service."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.serving import running, wait_until

N_CONVERSATIONS = 400
RATES_HZ = (1, 7, 4_000, 16_000, 44_100, 1_000_000, 0, -1, 1 << 40)


def random_start(rng: np.random.Generator) -> str | bytes:
    """A first message: mostly valid, or nearly so."""
    start: dict[str, Any] = {
        "sample_rate_hz": int(rng.choice(RATES_HZ[: 5 if rng.integers(4) else None])),
        "encoding": str(rng.choice(["s16le", "f32le"])),
        "channels": int(rng.choice([1, 1, 2, 3, 32])),
    }
    match int(rng.integers(12)):
        case 0:
            return rng.bytes(int(rng.integers(100)))
        case 1:
            return json.dumps(start)[: int(rng.integers(30))]
        case 2:
            return json.dumps(start | {str(rng.choice(["encoding", "x", "top_k"])): -1})
        case 3:
            return str(rng.choice(["[]", "null", "1e999", "\ud7ff", "{" * 500]))
    return json.dumps(start)


def random_message(rng: np.random.Generator) -> str | bytes:
    """A further message: mostly samples, of any size and any bits."""
    match int(rng.integers(12)):
        case 0:
            return str(rng.choice(["{}", "end", '{"type": "start"}', "", "[1]"]))
        case 1 | 2:
            return json.dumps({"type": "end"})
        case 3:
            return b""
    return rng.bytes(int(rng.integers(1, 5_000)))


def converse(url: str, rng: np.random.Generator) -> tuple[int, list[Any], int | None]:
    """Send random messages; return their number, the answers, and the close code."""
    answers: list[Any] = []
    n_sent = 0
    with connect(url, proxy=None, open_timeout=30) as connection:
        with contextlib.suppress(ConnectionClosed):
            connection.send(random_start(rng))
            for _ in range(int(rng.integers(12))):
                connection.send(random_message(rng))
                n_sent += 1
            if rng.integers(4) == 0:
                with contextlib.suppress(OSError):  # the service may have closed it already
                    connection.socket.shutdown(socket.SHUT_RDWR)  # without a goodbye
                return n_sent, answers, None
            connection.send(json.dumps({"type": "end"}))
        with contextlib.suppress(ConnectionClosed):
            while True:
                answers.append(json.loads(connection.recv(timeout=30)))
    return n_sent, answers, connection.close_code


def test_random_messages_get_documented_answers_and_leave_nothing_behind() -> None:
    n_messages = n_done = n_problems = 0
    with running(embedder="mini", max_streams=4) as served:
        url = served.url.replace("http", "ws", 1) + "/stream"
        for seed in range(N_CONVERSATIONS):
            n_sent, answers, code = converse(url, np.random.default_rng(seed))
            n_messages += n_sent
            kinds = [answer.get("type") for answer in answers]
            assert set(kinds) <= {"ready", "tags", "done", "error"}, (seed, kinds)
            # 1008 follows an error; None is a connection that was cut here.
            assert code in (None, 1000, 1008), (seed, code, answers)
            assert kinds.count("error") == (code == 1008), (seed, code, kinds)
            n_done += "done" in kinds
            n_problems += "error" in kinds
        wait_until(lambda: served.service.streams.n_taken == 0)
        assert served.client.get("/readyz").status_code == 200
    assert n_messages > 1_500
    assert n_done > N_CONVERSATIONS / 10
    assert n_problems > N_CONVERSATIONS / 4
