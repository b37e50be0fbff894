"""Demo: tag three of the included recordings, embed one of them, and draw it.

Run it with `make demo`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cli
import vggish
from classifier import Tagger
from classifier.output.plot import plot_tags
from vggish.embedders.install import shipped_recordings

OUT_DIR = Path("demo-output")
SHOWN = ("speech_voicemail.wav", "water_stream.ogg", "guitar_chord.ogg")
DRAWN = "guitar_chord.ogg"


def main() -> int:
    """Tag the recordings, embed and draw one of them."""
    paths = {path.name: os.path.relpath(path) for path in shipped_recordings()}
    _show("classify", *(paths[name] for name in SHOWN))
    _show("embed", paths[DRAWN], "--out-dir", str(OUT_DIR))
    picture = OUT_DIR / f"{Path(DRAWN).stem}.png"
    tags = Tagger.load().tag(paths[DRAWN], top_k=6)
    plot_tags(vggish.load_audio(paths[DRAWN]), tags, picture, title=DRAWN)
    print(f"\n{picture}: waveform, log-mel spectrogram, and the times of each tag")
    print("Try your own audio: .venv/bin/audiotag classify FILE")
    return 0


def _show(*arguments: str) -> None:
    """Print a command and run it."""
    print(f"\n$ audiotag {' '.join(arguments)}", flush=True)
    status = cli.main(arguments)
    if status:
        sys.exit(status)


if __name__ == "__main__":
    sys.exit(main())
