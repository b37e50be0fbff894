"""Tests that the tutorial's commands work, in order, on recordings of three made classes."""

from __future__ import annotations

import contextlib
import csv
import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from tests.support.documents import code_blocks
from tests.support.paths import ROOT
from vggish.params import SAMPLE_RATE_HZ

TUTORIAL = ROOT / "docs" / "tutorial.md"


def make_clip(label: str, rng: np.random.Generator) -> Any:
    """Return two seconds that resemble a class of the tutorial as far as a classifier needs."""
    times = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    if label == "siren":
        pitch_hz = 600 + 300 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * times)
        return 0.5 * np.sin(2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ)
    if label == "rain":
        return rng.normal(size=len(times)) * rng.uniform(0.05, 0.2)
    clicks = np.zeros(len(times))
    clicks[rng.integers(0, len(times), 12)] = rng.uniform(0.5, 0.9, 12)
    decay = np.exp(-np.arange(400) / 60) * np.sin(np.arange(400) * 0.5)
    return np.convolve(clicks, decay)[: len(times)]


@pytest.fixture
def recordings(in_directory: Path, rng: np.random.Generator) -> Path:
    """The folders `recordings` and `test` of the tutorial, in the working directory."""
    for folder, n_clips in (("recordings", 10), ("test", 3)):
        for label in ("dog", "rain", "siren"):
            directory = in_directory / folder / label
            directory.mkdir(parents=True)
            for i in range(1, n_clips + 1):
                clip = make_clip(label, rng).clip(-1, 1)
                soundfile.write(directory / f"{label}{i:02}.wav", clip, SAMPLE_RATE_HZ)
    return in_directory


def run(command: str) -> str:
    """Run a line of shell and return what it prints."""
    python = shlex.quote(sys.executable)
    script = command.replace("audiotag ", f"{python} -m cli ")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def read_csv(name: str) -> list[dict[str, str]]:
    with open(name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@contextlib.contextmanager
def service(command: str, url: str) -> Iterator[None]:
    """Run the tutorial's `audiotag serve` until the block ends."""
    arguments = shlex.split(command)[1:]
    process = subprocess.Popen([sys.executable, "-m", "cli", *arguments])
    try:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/readyz", trust_env=False).is_success:
                    break
            assert process.poll() is None, "the service has exited"
            assert time.monotonic() < end, "the service does not become ready"
            time.sleep(0.1)
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not shutil.which("curl"), reason="the tutorial needs curl")
def test_tutorial_leads_from_recordings_to_a_service(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect, train, folds, evaluate, classify, export, serve, request = code_blocks(TUTORIAL, "sh")

    assert "30" in run(inspect)
    run(train)
    assert Path("runs/first/bundle/head.onnx").is_file()
    run(folds)
    assert Path("runs/folds/bundle/head.onnx").is_file()
    run(evaluate)
    assert "dog/dog01,dog" in Path("labels.csv").read_text().splitlines()
    precisions = {row["display_name"]: float(row["AP"]) for row in read_csv("classes.csv")}
    assert precisions == {"dog": 1.0, "rain": 1.0, "siren": 1.0}
    assert "siren" in run(classify.splitlines()[0])
    run(classify.splitlines()[1])
    rows = read_csv("tags.csv")
    assert len(rows) == 9
    assert all(Path(row["file"]).parent.name == row["label"] for row in rows)
    (python,) = code_blocks(TUTORIAL, "python")
    exec(compile(python, "tutorial.md", "exec"), {})
    assert capsys.readouterr().out == "siren\n"
    run(export)
    assert json.loads(Path("my-bundle/bundle.json").read_text())["name"] == "my-sounds"

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with service(serve.replace("8000", str(port)), f"http://127.0.0.1:{port}"):
        curl, client = request.replace("8000", str(port)).splitlines()
        (tag,) = json.loads(run(curl))["tags"]
        assert tag["label"] == "siren"
        assert len(run(client).splitlines()) == 1 + 9 * 3
