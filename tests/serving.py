"""A real service for tests: uvicorn in a thread, on a free port of this machine."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from service.app import create_app
from service.config import ServiceConfig
from service.connections import Connection
from service.state import Service

START_SECONDS = 60.0


@dataclass
class Running:
    """A service that runs.

    Attributes:
        url: where it is.
        service: what it consists of.
        client: an HTTP client with this address.
    """

    url: str
    service: Service
    client: httpx.Client

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def metric(self, name: str, **labels: str) -> float:
        """The value of a counter or gauge, summed over the labels that are not named."""
        total = 0.0
        for line in self.client.get("/metrics").text.splitlines():
            key, _, value = line.rpartition(" ")
            if key.split("{")[0] == name and all(f'{k}="{v}"' in key for k, v in labels.items()):
                total += float(value)
        return total


@contextlib.contextmanager
def running(app: Any = None, **settings: Any) -> Iterator[Running]:
    """A service with these settings; it ends with the block."""
    config = ServiceConfig(**settings)
    app = create_app(config) if app is None else app
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    # As the service has it.
    connection: Any = functools.partial(Connection, patience_seconds=config.upload_idle_seconds)
    server = uvicorn.Server(
        uvicorn.Config(
            app, http=connection, log_config=None, timeout_graceful_shutdown=5, lifespan="on"
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    end = time.monotonic() + START_SECONDS
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        assert time.monotonic() < end, "the service took too long to start"
        time.sleep(0.01)
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            yield Running(url, app.state.audiotag, client)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert not thread.is_alive(), "the service did not stop"
