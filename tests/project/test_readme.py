"""Tests that the commands and code of the README work as written."""

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

from tests.support.documents import code_blocks
from tests.support.frames import write_labelled_frames
from tests.support.paths import ROOT

README = ROOT / "README.md"


@pytest.fixture
def clips(in_directory: Path, write_sound: Callable[..., Path], small_home: Path) -> Path:
    """The audio and frame files that the README's commands name, in the working directory."""
    write_sound("cwd/clip.wav", seconds=2.5, rate_hz=44_100, n_channels=2)
    write_sound("cwd/sounds/rain.wav", seconds=1.5)
    write_sound("cwd/sounds/dogs/bark.wav", seconds=0.5, rate_hz=8_000)
    for seed, name in enumerate("ab"):
        # Few short clips, because the README trains the default head.
        write_labelled_frames(
            in_directory / f"data/{name}.tfrecord", 12, seed=seed, n_frames=(1, 2)
        )
    return in_directory


def test_first_example_prints_the_output_shown(
    audiotag: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    command, *shown = code_blocks(README, "console")[0].splitlines()
    done = audiotag(*shlex.split(command.removeprefix("$ audiotag ")), cwd=ROOT)
    printed = done.stdout.splitlines()
    # Other processors round differently, which may change a percentage and the end of its bar.
    bar_and_score = re.compile(r"\s*[█-▏]+\s+(\d[\d.]*) %\s*")
    assert [bar_and_score.sub(" ", line) for line in printed] == [
        bar_and_score.sub(" ", line) for line in shown
    ]
    expected_scores = [float(found[1]) for line in shown if (found := bar_and_score.search(line))]
    scores = [float(found[1]) for line in printed if (found := bar_and_score.search(line))]
    assert len(scores) == 3
    assert scores == pytest.approx(expected_scores, abs=1)


@pytest.mark.timeout(900)
def test_shell_commands_run_and_write_the_files_they_name(clips: Path) -> None:
    pytest.importorskip("pyarrow")
    commands = [line for block in code_blocks(README, "sh") for line in block.splitlines()]
    assert len(commands) >= 11
    for command in commands:
        script = command.replace("audiotag ", f"{shlex.quote(sys.executable)} -m cli ")
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, env=os.environ.copy()
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    written = {str(path.relative_to(clips)) for path in clips.rglob("*") if path.is_file()}
    assert {"clip.npz", "frames/rain.npz", "frames/dogs/bark.npz"} <= written
    assert {"all.parquet", "all.tfrecord", "bad.csv", "piped.csv"} <= written
    assert {"runs/first/bundle/head.onnx", "my-bundle/bundle.json"} <= written
    assert len(Path("predictions.csv").read_text().splitlines()) == 1 + 24


def test_python_code_runs(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public_api, stages = code_blocks(README, "python")
    names: dict[str, Any] = {}
    exec(compile(public_api, "README.md", "exec"), names)
    assert capsys.readouterr().out == "clip (3, 128)\n"
    scores = [tag.score for tag in names["tags"].tags]
    assert len(scores) == 3
    assert 1 >= scores[0] >= scores[1] >= scores[2] >= 0
    names = {}
    exec(compile(stages, "README.md", "exec"), names)
    assert names["raw"].shape[1] == 128
    assert len(names["warnings"]) == 1


def test_every_extra_is_described() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    described = re.findall(r"^\| `(\w+)` \|", README.read_text("utf-8"), re.MULTILINE)
    assert extras == set(described)
