"""The command line, in this process or a subprocess, and a training run made with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.frames import write_labelled_frames
from tests.support.paths import ROOT


@pytest.fixture
def audiotag() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a subprocess: `audiotag("embed", "a.wav", cwd=...)`."""

    def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", *map(str, arguments)]
        settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120}
        return subprocess.run(command, env=os.environ.copy(), **{**settings, **options})

    return run


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A directory with a run of `audiotag train` on synthetic clips, and the finished process.

    The directory holds data/a.tfrecord and b.tfrecord, eval/e.tfrecord, classes.csv and
    runs/feature-attention-1.
    """
    directory = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(("data/a", "data/b", "eval/e")):
        write_labelled_frames(directory / f"{name}.tfrecord", seed=seed)
    (directory / "classes.csv").write_text(
        "index,mid,display_name\n0,/m/dog,dog\n1,/m/cat,cat\n2,,rain\n3,,wind\n"
    )
    head = "--head feature-attention --set units=16 layers=1 dropout=0"
    how = "--labels classes.csv --epochs 3 --learning-rate 0.05 --ema 0.5 --licence made-up"
    command = [sys.executable, "-m", "cli", "train", "--frames", "data", *head.split()]
    done = subprocess.run(
        [*command, *how.split()],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return directory, done


@pytest.fixture
def run_directory(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A copy of the directory of `trained`, as the working directory."""
    directory = tmp_path / "cwd"
    shutil.copytree(trained[0], directory)
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def command_line(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: status, stdout, stderr."""
    import cli

    def run(*arguments: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            status = cli.main([*map(str, arguments)])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run
