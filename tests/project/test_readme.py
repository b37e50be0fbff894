"""The commands and the code of the README do what they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.frames import write_labelled_frames
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def sounds(in_directory: Path, write_sound: Callable[..., Path], small_home: Path) -> Path:
    write_sound("cwd/clip.wav", seconds=2.5, rate_hz=44_100, n_channels=2)
    write_sound("cwd/sounds/rain.wav", seconds=1.5)
    write_sound("cwd/sounds/dogs/bark.wav", seconds=0.5, rate_hz=8_000)
    for seed, name in enumerate("ab"):
        # Short and few: the training of the README is that of the default head.
        write_labelled_frames(
            in_directory / f"data/{name}.tfrecord", 12, seed=seed, n_frames=(1, 2)
        )
    return in_directory


@pytest.mark.timeout(900)
def test_shell_commands_run_and_write_what_they_name(sounds: Path) -> None:
    pytest.importorskip("pyarrow")
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) >= 11
    for command in commands:
        script = command.replace("audiotag ", f"{shlex.quote(sys.executable)} -m cli ")
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, env=os.environ.copy()
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    written = {str(path.relative_to(sounds)) for path in sounds.rglob("*") if path.is_file()}
    assert {"clip.npz", "frames/rain.npz", "frames/dogs/bark.npz"} <= written
    assert {"all.parquet", "all.tfrecord", "bad.csv", "piped.csv"} <= written
    assert {"runs/first/bundle/head.onnx", "my-bundle/bundle.json"} <= written
    assert len(Path("predictions.csv").read_text().splitlines()) == 1 + 24


def test_python_code_runs(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embedding, tagging = blocks("python")
    exec(compile(embedding, "README.md", "exec"), {})
    assert capsys.readouterr().out == "clip (3, 128)\n"
    names: dict[str, Any] = {}
    exec(compile(tagging, "README.md", "exec"), names)
    scores = [tag.score for tag in names["tags"].tags]
    assert len(scores) == 3
    assert 1 >= scores[0] >= scores[1] >= scores[2] >= 0


def test_every_extra_is_described() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    assert extras == set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
