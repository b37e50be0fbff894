"""What audiotag does to the recordings it ships: log-mel patches, then frames.

Run it with `make demo`.
"""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.table import Table

import cli
import vggish
from vggish.params import PATCH_SECONDS, SAMPLE_RATE_HZ
from vggish.weights import shipped_recordings

OUT_DIR = "demo-output"


def show_front_end() -> None:
    """Decode, resample and cut each recording into log-mel patches; show what came of it."""
    table = Table("recording", "at", title="Sound in: log-mel patches, 96 frames x 64 bands each")
    for column in ("seconds", "patches", "loudest band", "log-mel"):
        table.add_column(column, justify="right")
    start, seconds = time.perf_counter(), 0.0
    for path in shipped_recordings():
        with vggish.open_audio(path) as sound:
            origin = f"{sound.sample_rate_hz:,} Hz, {sound.n_channels} ch"
        waveform = vggish.load_audio(path)
        patches = vggish.log_mel_patches(waveform)
        seconds += len(waveform) / SAMPLE_RATE_HZ
        table.add_row(
            path.name,
            origin,
            f"{len(waveform) / SAMPLE_RATE_HZ:.2f}",
            str(len(patches)),
            str(int(patches.mean(axis=(0, 1)).argmax())),
            f"{patches.min():+.1f} to {patches.max():+.1f}",
        )
    elapsed = time.perf_counter() - start
    Console(width=100).print(table)
    print(f"{seconds:.1f} s of sound in {elapsed:.2f} s, {seconds / elapsed:.0f} x real time")


def main() -> int:
    """Show the front end, then embed the recordings: with VGGish if it is installed, or mini."""
    show_front_end()
    print(f"\nFrames out: 128 numbers for each {PATCH_SECONDS} s", flush=True)
    recordings = [str(path) for path in shipped_recordings()]
    return cli.main(["embed", *recordings, "--out-dir", OUT_DIR])


if __name__ == "__main__":
    sys.exit(main())
