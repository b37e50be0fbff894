"""`make demo` runs the main job on the recordings that the repository ships."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from vggish.weights import shipped_recordings

ROOT = Path(__file__).resolve().parents[1]


DEMO = ROOT / "examples" / "demo.py"


def assert_shown(shown: str, embedder: str, directory: Path) -> None:
    assert all(path.name in shown for path in shipped_recordings())
    written = {path.stem for path in (directory / "demo-output").iterdir()}
    assert written == {path.stem for path in shipped_recordings()}
    assert re.search(rf"\d+ frames \[128\] uint8, .*\({embedder} float32", shown)


@pytest.mark.usefixtures("small_mini")
def test_on_a_fresh_machine_it_embeds_every_recording_and_says_how_to_get_vggish(
    in_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(DEMO), run_name="__main__")
    captured = capsys.readouterr()
    assert exit_.value.code == 0
    assert_shown(captured.out, "mini", in_directory)
    assert "audiotag weights fetch vggish" in captured.err


@pytest.mark.usefixtures("small_home")
def test_with_vggish_it_embeds_every_recording(in_directory: Path) -> None:
    command = [sys.executable, str(DEMO)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr
    assert_shown(done.stdout, "vggish", in_directory)


def test_every_recording_is_attributed() -> None:
    text = (ROOT / "weights" / "clips" / "ATTRIBUTION.md").read_text("utf-8")
    assert len(shipped_recordings()) >= 10
    assert [path.name for path in shipped_recordings() if f"| `{path.name}` |" not in text] == []
