"""Fixtures shared by many tests: synthetic audio, seeded networks, installed weights."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import vggish.api
from tests.support.commands import audiotag, command_line, run_directory, trained
from tests.support.file_server import server
from tests.support.networks import (
    pca_file,
    seeded_checkpoint,
    small_home,
    small_mini,
    small_network,
)
from tests.support.paths import SHARED_DATA
from tests.support.sounds import write_sound
from tests.support.weights import fetched, seeded_home, weights_manifest, weights_server

# Fixtures used by tests in several folders.
__all__ = [
    "audiotag",
    "command_line",
    "fetched",
    "pca_file",
    "run_directory",
    "seeded_checkpoint",
    "seeded_home",
    "server",
    "small_home",
    "small_mini",
    "small_network",
    "trained",
    "weights_manifest",
    "weights_server",
    "write_sound",
]

# No deadline: a busy machine may be slow.
hypothesis.settings.register_profile("audiotag", deadline=None)
hypothesis.settings.load_profile("audiotag")
# Environment variables of the user that tests may read.
_KEPT = {"AUDIOTAG_FFMPEG", "AUDIOTAG_CHROMIUM", "AUDIOTAG_OFFICIAL_HOME"}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data outside the repository; tests that need it are skipped if it does not exist."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the development data in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def _handle_interrupts() -> None:
    """Handle SIGINT, which background jobs of a shell and their children ignore by default."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove the user's settings and keys, and use no proxy for this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AUDIOTAG_") and name not in _KEPT:
                patch.delenv(name)
        patch.setenv("AUDIOTAG_HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1,localhost,::1")
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty AUDIOTAG_HOME, apart from the user's and those of other tests."""
    monkeypatch.setenv("AUDIOTAG_HOME", str(tmp_path_factory.mktemp("home")))
    vggish.api._load_cached.cache_clear()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def in_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    directory = tmp_path / "cwd"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory
