"""Decode fuzzed files, and compare what comes out with what they hold."""

from __future__ import annotations

import resource
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soxr

from tests.support.fuzzing.faults import Fuzzed, fuzzed
from vggish.audio import decoders
from vggish.audio.limits import AudioLimits
from vggish.audio.stream import open_audio
from vggish.errors import AudiotagError

# Starting ffmpeg takes a hundred times as long as decoding a small file.
FFMPEG_EVERY = 50
MAX_SECONDS = 20.0
OUTCOMES = ("whole", "warned", "refused", "wrong")


@dataclass
class Tally:
    """What came out of many files.

    Attributes:
        counts: number of files by container, fault and outcome.
        wrong: what went wrong, with the seed.
        slowest_seconds: longest time for a file.
        peak_bytes: largest memory of the process.
    """

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    peak_bytes: int = 0

    def add(self, other: Tally) -> None:
        """Add the tally of another process."""
        self.counts += other.counts
        self.wrong += other.wrong
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)

    @property
    def n_files(self) -> int:
        """Number of files."""
        return sum(self.counts.values())


def check_seeds(seeds: Iterable[int], directory: Path) -> Tally:
    """Decode the files of seeds, which are written to a directory one after the other."""
    tally = Tally()
    for seed in seeds:
        file = fuzzed(seed)
        path = directory / "fuzzed"
        path.write_bytes(file.data)
        started = time.monotonic()
        outcome, detail = check(file, path)
        tally.slowest_seconds = max(tally.slowest_seconds, time.monotonic() - started)
        tally.counts[file.container, file.fault, outcome] += 1
        if outcome == "wrong":
            tally.wrong.append(f"seed {seed} ({file.container}, {file.fault}): {detail}")
    # In kilobytes on Linux.
    tally.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return tally


def check_shard(seeds: Iterable[int]) -> Tally:
    """Decode the files of seeds in a temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        return check_seeds(seeds, Path(directory))


def check(file: Fuzzed, path: Path) -> tuple[str, str]:
    """The outcome of decoding a file, and what is wrong with it."""
    limits = AudioLimits(deadline=time.monotonic() + MAX_SECONDS)
    use_ffmpeg = file.seed % FFMPEG_EVERY == 0
    find = decoders.find_ffmpeg if use_ffmpeg else (lambda: None)
    try:
        with (
            mock.patch.object(decoders, "find_ffmpeg", find),
            open_audio(path, limits=limits) as stream,
        ):
            waveform = np.concatenate(list(stream.blocks()))
            rate_hz, warnings = stream.sample_rate_hz, stream.warnings
    except AudiotagError as error:
        if file.expects == "whole":
            return "wrong", f"refused: {error}"
        return "refused", ""
    except Exception:
        return "wrong", traceback.format_exc(limit=-3)
    problem = _difference(file, waveform, rate_hz) if file.parts else ""
    if file.expects == "whole" and (problem or warnings):
        return "wrong", f"{problem or 'warnings of a whole file'} {warnings}"
    if file.expects == "law" and problem and not warnings:
        return "wrong", f"{problem}, without a warning"
    return "warned" if warnings else "whole", ""


def _difference(file: Fuzzed, waveform: Any, rate_hz: int) -> str:
    """How the audio differs from what the file holds; "" if it does not."""
    start = 0.0
    for number, part in enumerate(file.parts, 1):
        seconds = len(part.sound) / part.rate_hz
        expected = part.sound
        if part.rate_hz != rate_hz and len(expected):
            expected = soxr.resample(expected, part.rate_hz, rate_hz)
        first = round(start * rate_hz)
        found = waveform[first : first + len(expected)]
        # Each part before may have been rounded to a sample.
        if len(found) < len(expected) - number:
            return f"part {number} has {len(found)} samples of {len(expected)}"
        size = min(len(found), len(expected))
        if size > 1 and not _is_alike(found[:size], expected[:size], part.tolerance, number == 1):
            return f"part {number} has another sound"
        start += seconds
    return ""


def _is_alike(found: Any, expected: Any, tolerance: float | None, is_exact: bool) -> bool:
    if tolerance is not None and is_exact:
        return bool(np.abs(found - expected).max() <= tolerance)
    if len(found) < 64:  # too short to correlate
        return True
    # Resampling and rounding move later parts by up to a sample.
    shifted = [(found[1:], expected[:-1]), (found, expected), (found[:-1], expected[1:])]
    return max(float(np.corrcoef(*pair)[0, 1]) for pair in shifted) > 0.7
