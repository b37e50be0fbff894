"""The service behind the reverse proxies of deploy/, with a real nginx if it is installed."""

from __future__ import annotations

import json
import logging
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import soundfile
from websockets.sync.client import connect

from service.settings.config import ServiceConfig
from tests.support.paths import ROOT
from tests.support.serving import Running, running, wait_until
from tests.support.sounds import make_sound

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
EXAMPLE = ROOT / "deploy" / "nginx.conf"
HEADER_SECONDS = 1.0

# The example in one unprivileged process that writes only below its own directory.
NGINX_CONF = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{example}
}}
"""


@dataclass
class Proxy:
    """nginx before a service.

    Attributes:
        url: where the proxy serves audiotag.
        port: the proxy's port on 127.0.0.1.
    """

    service: Running
    url: str
    port: int


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def adapted(example: str, port: int, upstream: int) -> str:
    """The example without TLS, on the ports of the test, with short timeouts."""
    for pattern, replacement in (
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        (r"server 127\.0\.0\.1:8000;", f"server 127.0.0.1:{upstream};"),
        (r"ssl_certificate\w*\s.*;", ""),
        (r"client_header_timeout 10s;", f"client_header_timeout {HEADER_SECONDS:g}s;"),
    ):
        example, n = re.subn(pattern, replacement, example)
        assert n, pattern
    return example


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    if NGINX is None:
        pytest.skip("needs nginx")
    directory = tmp_path_factory.mktemp("nginx")
    port = free_port()
    with running(embedder="mini", trusted_proxies=("127.0.0.1",), root_path="/audiotag") as service:
        example = adapted(EXAMPLE.read_text("utf-8"), port, service.port)
        conf = directory / "nginx.conf"
        conf.write_text(NGINX_CONF.format(directory=directory, example=example))
        process = subprocess.Popen([NGINX, "-p", directory, "-c", conf], stderr=subprocess.PIPE)
        try:

            def answers() -> bool:
                assert process.poll() is None, process.stderr and process.stderr.read()
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) == 0

            wait_until(answers)
            yield Proxy(service, f"http://127.0.0.1:{port}/audiotag", port)
        finally:
            process.terminate()
            process.communicate()


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("wav") / "clip.wav"
    soundfile.write(path, make_sound(2.0), 16_000)
    return path.read_bytes()


def test_uploads_over_one_connection_are_tagged(proxy: Proxy, wav: bytes) -> None:
    with httpx.Client(timeout=60, trust_env=False) as client:
        for files in ({"file": ("clip.wav", wav)}, None, {"file": ("clip.wav", wav)}):
            content = None if files else iter([wav[:1000], wav[1000:]])
            headers = {} if files else {"Content-Type": "audio/wav"}
            answer = client.post(
                f"{proxy.url}/classify", files=files, content=content, headers=headers
            )
            assert answer.status_code == 200
            assert len(answer.json()["tags"]) == 10
        page = client.get(f"{proxy.url}/")
        assert (page.status_code, page.headers["content-type"][:9]) == (200, "text/html")
        redirect = client.get(proxy.url)
        assert redirect.status_code == 301
        assert redirect.headers["location"].endswith("/audiotag/")


def test_streams_pass_through(proxy: Proxy) -> None:
    url = f"{proxy.url.replace('http', 'ws', 1)}/stream"
    with connect(url, proxy=None, open_timeout=30) as stream:
        stream.send(json.dumps({"sample_rate_hz": 16_000}))
        assert json.loads(stream.recv(timeout=30))["type"] == "ready"
        stream.send(bytes(4 * 16_000))
        stream.send(json.dumps({"type": "end"}))
        types = [json.loads(message)["type"] for message in stream]
    assert "tags" in types


def test_only_a_page_of_another_origin_is_refused(proxy: Proxy) -> None:
    url = f"{proxy.url.replace('http', 'ws', 1)}/stream"
    own = f"http://127.0.0.1:{proxy.port}"
    with connect(url, proxy=None, origin=own):  # type: ignore[arg-type]
        pass
    answer = httpx.post(f"{proxy.url}/classify", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403


def test_slow_request_headers_time_out_at_the_proxy(proxy: Proxy) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.settimeout(0.1)
        client.sendall(b"GET /audiotag/healthz HTTP/1.1\r\nHost: a\r\n")
        while True:
            try:
                client.sendall(b"X")
                if not client.recv(4096):
                    break
            except TimeoutError:
                assert time.monotonic() - began < 30
            except ConnectionError:
                break
    assert time.monotonic() - began > 0.9 * HEADER_SECONDS
    assert proxy.service.metric("audiotag_requests_total", route="/healthz") == 0


@pytest.mark.parametrize("said", [{}, {"X-Forwarded-For": "203.0.113.9"}])
def test_client_address_comes_from_the_proxy_and_not_from_the_client(
    said: dict[str, str], proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=transport) as client, caplog.at_level(logging.INFO, "audiotag"):
        assert client.get(f"{proxy.url}/version", headers=said).status_code == 200
    (record,) = [each for each in caplog.records if "/version" in each.getMessage()]
    assert record.client == "127.0.0.2"  # type: ignore[attr-defined]


def test_bodies_up_to_the_limit_of_the_service_pass_the_proxies() -> None:
    limit = ServiceConfig().max_upload_bytes >> 20
    assert f"client_max_body_size {limit + 1}m;" in EXAMPLE.read_text("utf-8")
    assert f"max_size {limit + 1}MiB" in (ROOT / "deploy" / "Caddyfile").read_text("utf-8")


def test_caddy_example_is_valid(tmp_path: Path) -> None:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("needs caddy")
    command = [caddy, "validate", "--adapter", "caddyfile", "--config", ROOT / "deploy/Caddyfile"]
    done = subprocess.run(command, capture_output=True, text=True, env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
