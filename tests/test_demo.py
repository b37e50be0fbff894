"""`make demo` runs the main job on the recordings that the repository ships."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vggish.weights import shipped_recordings

ROOT = Path(__file__).resolve().parents[1]


def run_demo(cwd: Path) -> str:
    command = [sys.executable, str(ROOT / "examples" / "demo.py")]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_weights_it_shows_the_front_end_and_how_to_get_them(in_directory: Path) -> None:
    shown = run_demo(in_directory)
    assert all(path.name in shown for path in shipped_recordings())
    assert "audiotag weights fetch vggish" in shown


@pytest.mark.usefixtures("small_home")
def test_with_weights_it_embeds_every_recording(in_directory: Path) -> None:
    shown = run_demo(in_directory)
    written = {path.stem for path in (in_directory / "demo-output").iterdir()}
    assert written == {path.stem for path in shipped_recordings()}
    assert re.search(r"\d+ frames \[128\] uint8", shown)


def test_every_recording_is_attributed() -> None:
    text = (ROOT / "weights" / "clips" / "ATTRIBUTION.md").read_text("utf-8")
    assert len(shipped_recordings()) >= 10
    assert [path.name for path in shipped_recordings() if f"| `{path.name}` |" not in text] == []
