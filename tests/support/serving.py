"""A real service for tests: uvicorn in a thread, on a free port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from service.app import create_app
from service.engine.service import Service
from service.settings.config import ServiceConfig

TIMEOUT_SECONDS = 60.0


@dataclass
class Running:
    """A running service.

    Attributes:
        url: its address.
        service: its resources.
        client: an HTTP client with this address.
    """

    url: str
    service: Service
    client: httpx.Client

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def metric(self, name: str, **labels: str) -> float:
        """Value of a counter or gauge, summed over the labels not given."""
        total = 0.0
        for line in self.client.get("/metrics").text.splitlines():
            key, _, value = line.rpartition(" ")
            if key.split("{")[0] == name and all(f'{k}="{v}"' in key for k, v in labels.items()):
                total += float(value)
        return total


def wait_until(holds: Callable[[], bool], seconds: float = TIMEOUT_SECONDS) -> None:
    """Wait until a condition holds, with a timeout that suits a busy machine."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition was never met"
        time.sleep(0.01)


@contextlib.contextmanager
def running(app: Any = None, **settings: Any) -> Iterator[Running]:
    """Run a service with the given settings during the block."""
    config = ServiceConfig(**settings)
    app = create_app(config) if app is None else app
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(
        uvicorn.Config(app, http="h11", log_config=None, timeout_graceful_shutdown=5, lifespan="on")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()

    def has_started() -> bool:
        assert thread.is_alive(), "the service did not start"
        return server.started

    wait_until(has_started)
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            yield Running(url, app.state.audiotag, client)
    finally:
        server.should_exit = True
        thread.join(TIMEOUT_SECONDS)
        listener.close()
    assert not thread.is_alive(), "the service did not stop"
