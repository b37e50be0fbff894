"""What is said of sound that goes on: a line each 0.96 s, what went wrong, and a summary."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator

import numpy as np

from classifier.output.table import TableStyle, as_live_line, as_percent
from classifier.tags.types import LiveTags
from vggish.audio.microphone import Block
from vggish.audio.mono import SILENT_PEAK
from vggish.common.wording import count

# After so much silence it is worth a word.
SILENT_SECONDS = 3.0

_N_SUMMED_UP = 5


class LiveReport:
    """Puts into words what a microphone hears.

    Args:
        sample_rate_hz: of the microphone.
        look: how lines are drawn.
        as_json: lines of JSON instead.
    """

    def __init__(self, sample_rate_hz: int, look: TableStyle, *, as_json: bool = False) -> None:
        self._rate_hz = sample_rate_hz
        self._look = look
        self._as_json = as_json
        self._n_samples, self._n_lost, self._n_lines = 0, 0, 0
        self._peak, self._is_silence_told = 0.0, False
        self._best: dict[str, float] = {}

    def notes(self, block: Block) -> Iterator[str]:
        """What to say before a block is listened to: sound that was lost, or a dead microphone."""
        at = self._n_samples / self._rate_hz
        if block.n_lost:
            lost = block.n_lost / self._rate_hz
            yield f"warning: {lost:.1f} s of sound were dropped at {at:.1f} s: too much to compute"
        if block.is_broken:
            yield f"warning: the sound card lost some sound at {at:.1f} s"
        self._n_samples += block.n_lost + len(block.samples)
        self._n_lost += block.n_lost
        self._peak = max(self._peak, float(np.abs(block.samples).max(initial=0.0)))
        is_silent = self._peak < SILENT_PEAK and self._n_samples > SILENT_SECONDS * self._rate_hz
        if is_silent and not self._is_silence_told:
            self._is_silence_told = True
            yield "note: only silence so far; is the microphone muted, or is it another one?"

    def lines(self, found: Iterable[LiveTags]) -> Iterator[str]:
        """A line for each frame; its time counts what was lost."""
        for tags in found:
            lost = self._n_lost / self._rate_hz
            heard = dataclasses.replace(tags, start_seconds=round(tags.start_seconds + lost, 6))
            self._n_lines += 1
            for tag in heard.tags:
                self._best[tag.label] = max(tag.score, self._best.get(tag.label, 0.0))
            if self._as_json:
                yield json.dumps(heard.as_json(), ensure_ascii=False, allow_nan=False)
            else:
                yield as_live_line(heard.start_seconds, heard.tags, self._look)

    def summary(self) -> str:
        """How long it was, what was heard best, and what was lost."""
        best = sorted(self._best.items(), key=lambda item: -item[1])[:_N_SUMMED_UP]
        heard = "; ".join(f"{label} {as_percent(score)}" for label, score in best)
        seconds = self._n_samples / self._rate_hz
        text = f"{seconds:.1f} s heard, {count(self._n_lines, 'line')}"
        text += f"; best: {heard}" if heard else ""
        lost = self._n_lost / self._rate_hz
        return text + (f"; {lost:.1f} s dropped" if self._n_lost else "")
