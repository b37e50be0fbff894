"""Format the tags of a live stream: a line each 0.96 s, warnings, and a summary."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator

import numpy as np

from classifier.output.table import TableStyle, as_live_line, as_percent
from classifier.tags.types import LiveTags
from vggish.audio.microphone import MicrophoneBlock
from vggish.audio.mono import SILENT_PEAK
from vggish.common.wording import count

# A microphone that is silent for this long may be muted.
SILENT_SECONDS = 3.0
_N_SUMMARISED = 5


class LiveReport:
    """Formats the tags of a microphone's audio, as lines of text or of JSON."""

    def __init__(self, sample_rate_hz: int, style: TableStyle, *, as_json: bool = False) -> None:
        self._rate_hz, self._style, self._as_json = sample_rate_hz, style, as_json
        self._n_samples, self._n_lost, self._n_lines = 0, 0, 0
        self._peak, self._has_warned_of_silence = 0.0, False
        self._best: dict[str, float] = {}

    def notes(self, block: MicrophoneBlock) -> Iterator[str]:
        """Warnings about a block of audio: lost samples, or a silent microphone."""
        at = self._n_samples / self._rate_hz
        if block.n_lost:
            lost = block.n_lost / self._rate_hz
            yield f"warning: dropped {lost:.1f} s of audio at {at:.1f} s: tagging is too slow"
        if block.is_broken:
            yield f"warning: the sound card lost some audio at {at:.1f} s"
        self._n_samples += block.n_lost + len(block.samples)
        self._n_lost += block.n_lost
        self._peak = max(self._peak, float(np.abs(block.samples).max(initial=0.0)))
        is_silent = self._peak < SILENT_PEAK and self._n_samples > SILENT_SECONDS * self._rate_hz
        if is_silent and not self._has_warned_of_silence:
            self._has_warned_of_silence = True
            yield "note: only silence so far; is the microphone muted, or another one in use?"

    def lines(self, frames: Iterable[LiveTags]) -> Iterator[str]:
        """A line for each frame; its time includes dropped audio."""
        lost = self._n_lost / self._rate_hz
        for frame in frames:
            tags = dataclasses.replace(frame, start_seconds=round(frame.start_seconds + lost, 6))
            self._n_lines += 1
            for tag in tags.tags:
                self._best[tag.label] = max(tag.score, self._best.get(tag.label, 0.0))
            if self._as_json:
                yield json.dumps(tags.as_json(), ensure_ascii=False, allow_nan=False)
            else:
                yield as_live_line(tags.start_seconds, tags.tags, self._style)

    def summary(self) -> str:
        """Duration, number of lines, tags with the highest scores, and dropped audio."""
        best = sorted(self._best.items(), key=lambda item: -item[1])[:_N_SUMMARISED]
        tags = "; ".join(f"{label} {as_percent(score)}" for label, score in best)
        text = f"{self._n_samples / self._rate_hz:.1f} s of audio, {count(self._n_lines, 'line')}"
        text += f"; highest scores: {tags}" if tags else ""
        lost = self._n_lost / self._rate_hz
        return text + (f"; {lost:.1f} s dropped" if self._n_lost else "")
