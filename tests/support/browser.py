"""A real browser for tests of the page: Chromium, with a file as its microphone."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from tests.support.paths import CLIPS

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)
# Console messages about failed requests, which some tests expect.
_FAILED_ANSWERS = (
    "Failed to load resource: the server responded with a status of",
    "Failed to load resource: net::ERR_CONNECTION_REFUSED",
)


def chromium(own: str) -> str:
    """Path of Chromium, or playwright's `own`; skip the test if there is none."""
    installed = map(shutil.which, _NAMES)
    found = os.environ.get("AUDIOTAG_CHROMIUM") or next(filter(None, installed), own)
    if not Path(found).is_file():
        pytest.skip("needs Chromium; AUDIOTAG_CHROMIUM can say where it is")
    return found


@contextlib.contextmanager
def browser(microphone: Path) -> Iterator[Any]:
    """A headless browser whose microphone plays a WAV file in a loop."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    flags = [*_FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
    with playwright.sync_playwright() as started:
        path = chromium(started.chromium.executable_path)
        running = started.chromium.launch(executable_path=path, args=flags)
        try:
            yield running
        finally:
            running.close()


@contextlib.contextmanager
def tab(running: Any, origin: str, **options: Any) -> Iterator[Any]:
    """A new page that must not contact other hosts, violate its policy, or log errors."""
    context = running.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url.replace("ws", "http", 1)))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    try:
        yield page
        context.close()
    finally:
        with contextlib.suppress(Exception):
            context.close()
    assert [url for url in asked if not url.startswith((origin, "blob:", "data:"))] == []
    assert [error for error in errors if not error.startswith(_FAILED_ANSWERS)] == []


def mixture(path: Path, names: tuple[str, ...], rate_hz: int = 48_000) -> Path:
    """Concatenate clips to a WAV file."""
    pieces = []
    for name in names:
        samples, rate = soundfile.read(CLIPS / name, always_2d=True)
        pieces.append(soxr.resample(samples.mean(axis=1), rate, rate_hz))
    soundfile.write(path, np.concatenate(pieces), rate_hz, subtype="PCM_16")
    return path
