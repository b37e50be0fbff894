"""Tests of `make demo` and of the recordings that it uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import vggish
from tests.support.paths import ROOT
from vggish.embedders.install import shipped_recordings

DEMO = ROOT / "examples" / "demo.py"
# Accepted best tags of each recording.
BEST_TAGS = {
    "speech_voicemail.wav": ("Speech",),
    "water_stream.ogg": ("Water", "Stream"),
    "guitar_chord.ogg": ("Music", "Guitar"),
}


def test_demo_tags_embeds_and_draws_without_installed_weights(in_directory: Path) -> None:
    done = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, best in BEST_TAGS.items():
        first = done.stdout.split(f"{name}  ")[1].splitlines()[1]
        assert first.strip().startswith(best), first
    assert "audiotag weights fetch vggish" in done.stderr
    assert (Path("demo-output") / "guitar_chord.png").read_bytes().startswith(b"\x89PNG")
    (clip,) = vggish.read_frames(Path("demo-output") / "guitar_chord.npz")
    assert clip.frames.shape == (7, 128)
    assert clip.metadata["embedder"]["name"] == "mini"


def test_every_recording_is_attributed() -> None:
    text = (ROOT / "weights" / "clips" / "ATTRIBUTION.md").read_text("utf-8")
    assert len(shipped_recordings()) >= 10
    assert [path.name for path in shipped_recordings() if f"| `{path.name}` |" not in text] == []
