"""What is in files of frames, bundles and sound files: `audiotag inspect`.

Damage is what one inspects for, so nothing here stops at it: it is counted and named.
"""

from __future__ import annotations

import glob
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from classifier.bundle import CARD_FILE, RUN_BUNDLE, load
from classifier.labels import Labels
from classifier.records import (
    ReadReport,
    files_below,
    find_frame_files,
    is_remote,
    looks_like_frames,
    read_clips,
)
from vggish.audio import open_audio
from vggish.checksums import sha256_of
from vggish.decoders import AUDIO_SUFFIXES
from vggish.errors import AudioError, BundleError, FrameFileError, OptionError
from vggish.extras import import_extra
from vggish.frame_files import FORMATS, atomic_write
from vggish.mel_features import n_patches
from vggish.params import SAMPLE_RATE_HZ

# A class with fewer examples is hard to learn and harder to measure.
FEW_EXAMPLES = 10
N_NAMED = 15
N_BARS = 12
_BAR_WIDTH = 30
_BLUE, _ORANGE, _RED = "#3b6fb6", "#d9822b", "#b5413c"


@dataclass(frozen=True)
class FramesInspection:
    """What files of frames hold, all of them together.

    Attributes:
        labels: names of the classes.
        report: counts of files, clips, kinds and embedders, and what was bad.
        n_bytes: size of the files, remote ones aside.
        lengths: clips by number of frames.
        labels_per_clip: labelled clips by number of labels.
        examples: clips by class index; classes beyond `labels` may be among them.
        combinations: clips by set of labels, sorted, for sets of two and more.
    """

    labels: Labels
    report: ReadReport
    n_bytes: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    labels_per_clip: Counter[int] = field(default_factory=Counter)
    examples: Counter[int] = field(default_factory=Counter)
    combinations: Counter[tuple[int, ...]] = field(default_factory=Counter)

    @property
    def n_frames(self) -> int:
        """Frames of all clips."""
        return sum(length * n_clips for length, n_clips in self.lengths.items())

    @property
    def is_labelled(self) -> bool:
        """Whether any clip has labels."""
        return bool(self.examples)

    def name_of(self, index: int) -> str:
        """Display name of a class; one beyond the known classes is called by its index."""
        return self.labels.names[index] if index < len(self.labels) else f"class {index}"

    def by_class(self) -> list[tuple[int, int]]:
        """(class index, number of clips), fewest first; known classes, and others that occur."""
        indices = {*range(len(self.labels)), *self.examples}
        counted = [(index, self.examples[index]) for index in indices]
        return sorted(counted, key=lambda pair: (pair[1], pair[0]))

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            "inspected": "frames",
            **self.report.as_json(),
            "n_bytes": self.n_bytes,
            "n_frames": self.n_frames,
            "n_classes": len(self.labels),
            "lengths": _by_number(self.lengths),
            "labels_per_clip": _by_number(self.labels_per_clip),
            "classes": [
                {
                    "index": index,
                    "mid": self.labels.mids[index] if index < len(self.labels) else "",
                    "label": self.name_of(index),
                    "n_clips": n_clips,
                }
                for index, n_clips in sorted(self.by_class())
            ],
            "combinations": [
                {"labels": [self.name_of(index) for index in indices], "n_clips": n_clips}
                for indices, n_clips in self.combinations.most_common(N_NAMED)
            ],
        }

    def lines(self, max_bad: int = 20) -> list[str]:
        """The same for people to read, with the first `max_bad` bad records named."""
        report = self.report
        lines = [
            f"files of frames: {report.n_files:,} ({_size(self.n_bytes)}); "
            f"clips: {report.n_clips:,}; frames: {self.n_frames:,}",
            *_counted("kind", report.kinds),
            *_counted("embedder", {name or "not said": n for name, n in report.embedders.items()}),
        ]
        if self.lengths:
            lines += ["", "frames in a clip", *_bars(self.lengths)]
        if self.is_labelled:
            lines += ["", "labels of a clip", *_bars(self.labels_per_clip)]
            lines += ["", *self._class_lines(), *self._combination_lines()]
        warnings = [w for w in report.warnings() if not w.startswith("damaged")]
        lines += ["", *warnings] if warnings else []
        if report.bad:
            lines += ["", f"bad records or files: {len(report.bad):,}"]
            lines += [f"  {where}: {reason}" for where, reason in report.bad[:max_bad]]
            if len(report.bad) > max_bad:
                lines.append(f"  ... and {len(report.bad) - max_bad:,} more")
        return lines

    def _class_lines(self) -> list[str]:
        ranked = self.by_class()
        n_none = sum(n_clips == 0 for _, n_clips in ranked)
        n_few = sum(0 < n_clips < FEW_EXAMPLES for _, n_clips in ranked)
        n_beyond = sum(index >= len(self.labels) for index in self.examples)
        lines = [
            f"classes: {len(self.labels):,} (without an example: {n_none:,}; with fewer than "
            f"{FEW_EXAMPLES}: {n_few:,})"
        ]
        if n_beyond:
            lines.append(
                f"classes beyond them: {n_beyond:,}; name the classes of this data with --labels"
            )
        lines += ["", f"{'class':<42} {'clips':>8}"]
        rarest = ranked[:N_NAMED]
        commonest = ranked[max(len(ranked) - 5, N_NAMED) :]
        lines += [self._class_line(*pair) for pair in rarest]
        lines += ["  ..."] if len(rarest) + len(commonest) < len(ranked) else []
        return lines + [self._class_line(*pair) for pair in commonest]

    def _class_line(self, index: int, n_clips: int) -> str:
        return f"  {_shortened(self.name_of(index), 40):<40} {n_clips:8,}"

    def _combination_lines(self) -> list[str]:
        if not self.combinations:
            return []
        lines = ["", f"combinations of labels: {len(self.combinations):,}, the most frequent"]
        for indices, n_clips in self.combinations.most_common(10):
            lines.append(f"  {n_clips:8,}  " + " + ".join(map(self.name_of, indices)))
        return lines


@dataclass(frozen=True)
class BundleFile:
    """A file that a bundle's card names.

    Attributes:
        name: as the card has it.
        n_bytes: its size, None if it cannot be read.
        state: "fits" or "differs" (from its checksum), "missing", or what else is wrong.
    """

    name: str
    n_bytes: int | None
    state: str


@dataclass(frozen=True)
class BundleInspection:
    """What a bundle is, and whether it is whole.

    Attributes:
        directory: of the bundle.
        card: what `bundle.json` says, {} if it cannot be read.
        files: those that the card names.
        problem: why the bundle cannot be loaded, None if it can.
    """

    directory: str
    card: Mapping[str, Any]
    files: tuple[BundleFile, ...]
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            "inspected": "bundle",
            "directory": self.directory,
            "problem": self.problem,
            "files": [asdict(file) for file in self.files],
            "card": dict(self.card),
        }

    def lines(self) -> list[str]:
        """The same for people to read."""
        lines = [f"bundle {self.directory}: " + ("whole" if self.problem is None else "NO GOOD")]
        lines += [f"  {line}" for line in (self.problem or "").splitlines()]
        for key, value in self.card.items():
            if key != "files":
                lines += _card_lines(key, value)
        lines += ["", "files"] if self.files else []
        for file in self.files:
            size = "" if file.n_bytes is None else _size(file.n_bytes)
            lines.append(f"  {file.name:<20} {size:>10}  {file.state}")
        return lines


@dataclass(frozen=True)
class AudioFile:
    """Facts about a sound file, as its header tells them.

    Attributes:
        path: of the file.
        format: container and encoding.
        sample_rate_hz: of the file.
        n_channels: of the file.
        seconds: duration; the whole file is read where the header does not tell it.
        n_frames: what `audiotag embed` makes of it, by default.
        warnings: sentences about what is odd.
        error: why it cannot be read, None if it can; then the rest is 0.
    """

    path: str
    format: str = ""
    sample_rate_hz: int = 0
    n_channels: int = 0
    seconds: float = 0.0
    n_frames: int = 0
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class AudioInspection:
    """What sound files are, all of them together."""

    files: tuple[AudioFile, ...]

    @property
    def readable(self) -> list[AudioFile]:
        """Those that can be read."""
        return [file for file in self.files if file.error is None]

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        readable = self.readable
        return {
            "inspected": "audio",
            "n_files": len(self.files),
            "n_bad": len(self.files) - len(readable),
            "duration_seconds": math.fsum(file.seconds for file in readable),
            "n_frames": sum(file.n_frames for file in readable),
            "formats": dict(Counter(file.format for file in readable)),
            "sample_rates_hz": _by_number(Counter(file.sample_rate_hz for file in readable)),
            "channels": _by_number(Counter(file.n_channels for file in readable)),
            "files": [asdict(file) for file in self.files],
        }

    def lines(self, max_files: int = 20) -> list[str]:
        """The same for people to read; each file has a line if there are at most `max_files`."""
        readable = self.readable
        seconds = [file.seconds for file in readable]
        n_frames = sum(file.n_frames for file in readable)
        lines = [
            f"sound files: {len(self.files):,} ({_duration(math.fsum(seconds))}); "
            f"frames when embedded: {n_frames:,}"
        ]
        if len(self.files) <= max_files:
            for file in readable:
                rate = f"{file.sample_rate_hz:,} Hz, {file.n_channels} ch"
                facts = f"{file.seconds:9.2f} s  {file.n_frames:6,} frames  {rate:<16}"
                lines.append(f"  {facts}  {file.format:<19}  {file.path}")
        elif readable:
            rates = {f"{rate:,} Hz": n for rate, n in _sorted(f.sample_rate_hz for f in readable)}
            channels = {f"{n} ch": count for n, count in _sorted(f.n_channels for f in readable)}
            lines += _counted("format", Counter(file.format for file in readable))
            lines += [*_counted("sample rate", rates), *_counted("channels", channels)]
            short, middle, long = np.quantile(seconds, (0, 0.5, 1))
            lines.append(f"duration: {short:.2f} to {long:.2f} s, median {middle:.2f} s")
        odd = [(f.path, text) for f in self.files for text in f.warnings]
        bad = [(f.path, f.error) for f in self.files if f.error is not None]
        for what, pairs in (("warnings", odd), ("files that cannot be read", bad)):
            if pairs:
                lines += ["", f"{what}: {len(pairs):,}"]
                lines += [f"  {path}: {text}" for path, text in pairs[:max_files]]
                lines += ["  ..."] if len(pairs) > max_files else []
        return lines


Inspection = FramesInspection | BundleInspection | AudioInspection


# --- Looking -----------------------------------------------------------------------------


def inspect_paths(arguments: Sequence[str], labels: Labels) -> list[Inspection]:
    """Say what is in files of frames, bundles and sound files.

    Args:
        arguments: files, directories (bundles, runs, or any with such files below them) and
            patterns.
        labels: names of the classes of the frames.

    Returns:
        One `BundleInspection` a bundle, then one `FramesInspection` of all files of frames and
        one `AudioInspection` of all sound files, if there are any.

    Raises:
        OptionError: an argument leads to nothing that can be inspected.
    """
    bundles: dict[str, None] = {}
    frame_files: list[str] = []
    sounds: dict[str, None] = {}
    for argument in arguments:
        found_bundles, found_frames, found_sounds = _sorted_out(argument)
        if not (found_bundles or found_frames or found_sounds):
            raise OptionError(f"{argument} has no frames, bundles or sound files to inspect")
        bundles.update(dict.fromkeys(found_bundles))
        frame_files += found_frames
        sounds.update(dict.fromkeys(found_sounds))
    inspections: list[Inspection] = [inspect_bundle(bundle) for bundle in bundles]
    if frame_files:
        inspections.append(inspect_frames(find_frame_files(frame_files), labels))
    if sounds:
        inspections.append(inspect_audio(sounds))
    return inspections


def inspect_frames(paths: Iterable[str], labels: Labels) -> FramesInspection:
    """Read files of frames and count what is in them; see `inspect_paths`."""
    paths = list(paths)
    local = [path for path in paths if not is_remote(path) and os.path.isfile(path)]
    found = FramesInspection(labels, ReadReport(), sum(map(os.path.getsize, local)))
    ids: set[str] = set()
    for clip in read_clips(paths, max_bad=sys.maxsize, report=found.report):
        ids.add(clip.clip_id)
        found.lengths[len(clip.frames)] += 1
        if clip.labels is None:
            continue
        found.labels_per_clip[len(clip.labels)] += 1
        found.examples.update(clip.labels)
        if len(clip.labels) > 1:
            found.combinations[tuple(sorted(clip.labels))] += 1
    found.report.n_repeated_ids = found.report.n_clips - len(ids)
    return found


def inspect_bundle(directory: str) -> BundleInspection:
    """Look at a bundle, compare its files with their checksums, and try to load it."""
    place = Path(directory)
    try:
        card = json.loads((place / CARD_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        card = {}  # loading it will tell
    card = card if isinstance(card, dict) else {}
    listed = card.get("files")
    files = listed.items() if isinstance(listed, dict) else ()
    problem = None
    try:
        load(place)
    except BundleError as error:
        problem = str(error)
    checked = tuple(_bundle_file(place, str(name), facts) for name, facts in files)
    return BundleInspection(directory, card, checked, problem)


def inspect_audio(paths: Iterable[str]) -> AudioInspection:
    """Look at the headers of sound files."""
    return AudioInspection(tuple(map(_audio_file, paths)))


def _sorted_out(argument: str) -> tuple[list[str], list[str], list[str]]:
    """The bundles, files of frames and sound files that an argument means."""
    for place in (argument, os.path.join(argument, RUN_BUNDLE)):
        if os.path.isfile(os.path.join(place, CARD_FILE)):
            return [place], [], []
    if is_remote(argument):
        return [], find_frame_files([argument]), []
    if os.path.isdir(argument):
        below = sorted(files_below(argument))
        cards = [path for path in below if os.path.basename(path) == CARD_FILE]
        bundles = [os.path.dirname(path) for path in cards]
        inside = tuple(os.path.join(bundle, "") for bundle in bundles)
        others = [path for path in below if not path.startswith(inside)]
        sounds = [path for path in others if _is_sound_name(path)]
        return bundles, [path for path in others if looks_like_frames(path)], sounds
    if os.path.exists(argument):
        is_sound = _is_sound_name(argument) or not _may_be_frames(argument)
        return [], [] if is_sound else [argument], [argument] if is_sound else []
    matches = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []
    if not matches:
        raise OptionError(f"there is no file or directory {argument}")
    if "**" in argument:
        matches = [match for match in matches if not os.path.isdir(match)]
    # A directory that a pattern matches may hold nothing of interest.
    parts = [_sorted_out(match) for match in matches]
    bundles, frames, sounds = ([path for part in parts for path in part[i]] for i in range(3))
    return bundles, frames, sounds


def _is_sound_name(path: str) -> bool:
    return Path(path).suffix.lower() in AUDIO_SUFFIXES


def _may_be_frames(path: str) -> bool:
    """Whether a file, whose name may say nothing, is more likely of frames than a sound."""
    if looks_like_frames(path) or Path(path).suffix.lower().lstrip(".") in FORMATS:
        return True
    report = ReadReport()
    next(read_clips([path], max_bad=sys.maxsize, report=report), None)
    return report.n_clips > 0


def _bundle_file(place: Path, name: str, facts: Any) -> BundleFile:
    path = place / name
    if ".." in path.parts or not path.is_relative_to(place):
        return BundleFile(name, None, "not inside the bundle")
    expected = facts.get("sha256") if isinstance(facts, dict) else None
    try:
        n_bytes = path.stat().st_size
        return BundleFile(name, n_bytes, "fits" if sha256_of(path) == expected else "differs")
    except FileNotFoundError:
        return BundleFile(name, None, "missing")
    except OSError as error:
        return BundleFile(name, None, error.strerror or str(error))


def _audio_file(path: str) -> AudioFile:
    try:
        with open_audio(path) as stream:
            seconds = stream.seconds_in_header
            if seconds is None:
                for _ in stream.blocks():
                    pass
                seconds = stream.seconds_read
            return AudioFile(
                path,
                stream.format,
                stream.sample_rate_hz,
                stream.n_channels,
                seconds,
                n_patches(round(seconds * SAMPLE_RATE_HZ)),
                tuple(stream.warnings),
            )
    except AudioError as error:
        return AudioFile(path, error=str(error))


# --- Words and numbers -------------------------------------------------------------------


def _by_number(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(number): counts[number] for number in sorted(counts)}


def _sorted(values: Iterable[int]) -> list[tuple[int, int]]:
    return sorted(Counter(values).items())


def _counted(what: str, counts: Mapping[str, int]) -> list[str]:
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    return [f"{what}: " + ", ".join(f"{name} ({n:,})" for name, n in ranked)] if ranked else []


def _bars(counts: Mapping[int, int]) -> list[str]:
    """A histogram in text."""
    rows = _binned(counts)
    most = max(n for _, n in rows)
    return [
        f"  {name:>9} {n:10,}  {'█' * math.ceil(_BAR_WIDTH * n / most)}".rstrip()
        for name, n in rows
    ]


def _binned(counts: Mapping[int, int], n_bins: int = N_BARS) -> list[tuple[str, int]]:
    """(number or range of numbers, count) for at most `n_bins` equal ranges of numbers."""
    low, high = min(counts), max(counts)
    width = math.ceil((high - low + 1) / n_bins)
    rows = []
    for start in range(low, high + 1, width):
        stop = min(start + width, high + 1)
        total = sum(n for number, n in counts.items() if start <= number < stop)
        rows.append((str(start) if stop - start == 1 else f"{start}-{stop - 1}", total))
    return rows


def _card_lines(key: str, value: Any, indent: str = "") -> list[str]:
    title = f"{indent}{key.replace('_', ' ')}:"
    if isinstance(value, Mapping):
        return [
            title,
            *(line for k, v in value.items() for line in _card_lines(str(k), v, indent + "  ")),
        ]
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, float):
        value = f"{value:.4g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:,}"
    return [f"{title} {value}"]


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


# --- Pictures ----------------------------------------------------------------------------


def plot_inspection(inspection: Inspection, path: str | Path) -> None:
    """Draw what was found.

    Args:
        inspection: of frames (examples of each class, the rarest classes, frames and labels of a
            clip) or of sound files (durations and sample rates).
        path: of a PNG, SVG or PDF; its suffix says which.

    Raises:
        OptionError: there is nothing to draw, or matplotlib draws no such files.
        FrameFileError: the file cannot be written.
        MissingPackageError: matplotlib is not installed.
    """
    figure = import_extra("matplotlib.figure", extra="plot", purpose="a plot").Figure(
        layout="constrained"
    )
    kind = Path(path).suffix.lower().lstrip(".") or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise OptionError(f"cannot draw {path}: use a name that ends in .png, .svg or .pdf")
    if isinstance(inspection, FramesInspection) and inspection.lengths:
        _plot_frames(figure, inspection)
    elif isinstance(inspection, AudioInspection) and inspection.readable:
        _plot_audio(figure, inspection.readable)
    else:
        raise OptionError("there is nothing to draw: only frames and sound files have pictures")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    try:
        with atomic_write(Path(path)) as file:
            figure.savefig(file, format=kind, dpi=120)
    except OSError as error:
        raise FrameFileError(f"cannot write {path}: {error.strerror or error}") from error


def _plot_frames(figure: Any, found: FramesInspection) -> None:
    if not found.is_labelled:
        figure.set_size_inches(8, 5)
        _plot_counts(figure.subplots(), found.lengths, "frames in a clip")
        return
    figure.set_size_inches(15, 10)
    grid = figure.add_gridspec(2, 3, height_ratios=[1, 1.15])
    _plot_classes(figure.add_subplot(grid[0, :]), found)
    _plot_rarest(figure.add_subplot(grid[1, 0]), found)
    _plot_counts(figure.add_subplot(grid[1, 1]), found.lengths, "frames in a clip")
    _plot_counts(figure.add_subplot(grid[1, 2]), found.labels_per_clip, "labels of a clip")


def _plot_classes(axes: Any, found: FramesInspection) -> None:
    counts = np.array([n_clips for _, n_clips in reversed(found.by_class())])
    filled = counts[counts > 0]
    ranks = np.arange(1, len(filled) + 1)
    is_few = filled < FEW_EXAMPLES
    width = 1.0 if len(filled) > 100 else 0.8
    axes.bar(ranks[~is_few], filled[~is_few], width, color=_BLUE)
    if is_few.any():
        few = f"fewer than {FEW_EXAMPLES}"
        axes.bar(ranks[is_few], filled[is_few], width, color=_RED, label=few)
    middle = np.median(counts)
    axes.axhline(middle, color=_ORANGE, linestyle="--", label=f"median {middle:,.0f}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0.7)
    axes.set_xlim(0.4, len(counts) + 0.6)
    axes.xaxis.get_major_locator().set_params(integer=True)
    n_none = len(counts) - len(filled)
    title = f"{found.report.n_clips:,} clips, {len(counts):,} classes"
    axes.set_title(title + (f", {n_none:,} of them without an example" if n_none else ""))
    axes.set(xlabel="classes, most frequent first", ylabel="clips")
    axes.legend(frameon=False)


def _plot_rarest(axes: Any, found: FramesInspection) -> None:
    rarest = found.by_class()[:N_NAMED]
    places, counts = range(len(rarest)), [n_clips for _, n_clips in rarest]
    bars = axes.barh(places, counts, color=[_RED if n < FEW_EXAMPLES else _BLUE for n in counts])
    names = [_shortened(found.name_of(index), 28) for index, _ in rarest]
    axes.set_yticks(places, labels=names, fontsize=9, parse_math=False)
    axes.invert_yaxis()
    axes.bar_label(bars, fmt="{:,.0f}", padding=4, fontsize=8, color="0.3")
    axes.set_xlim(0, max(*counts, 1) * 1.12)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(
        "classes" if len(rarest) == len(found.by_class()) else "classes with the fewest examples"
    )
    axes.set_xlabel("clips")


def _plot_counts(axes: Any, counts: Mapping[int, int], what: str) -> None:
    rows = _binned(counts, 30)
    places = range(len(rows))
    bars = axes.bar(places, [n for _, n in rows], color=_BLUE)
    if len(rows) <= N_BARS:
        # Beside a bar of thousands, one of ten cannot be seen.
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8, color="0.3")
    step = math.ceil(len(rows) / N_BARS)
    axes.set_xticks(places[::step], labels=[name for name, _ in rows[::step]])
    if any("-" in name for name, _ in rows):
        axes.tick_params(axis="x", labelrotation=90)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(title=what, ylabel="clips", xlabel=what.split(" ")[0])


def _plot_audio(figure: Any, files: Sequence[AudioFile]) -> None:
    figure.set_size_inches(12, 5)
    durations, rates = figure.subplots(1, 2)
    seconds = np.array([file.seconds for file in files])
    durations.hist(seconds, bins=30, color=_BLUE, edgecolor="white", linewidth=0.5)
    durations.set_title(f"{len(files):,} files, {_duration(float(seconds.sum()))}")
    durations.set(xlabel="seconds", ylabel="files")
    named = _sorted(file.sample_rate_hz for file in files)
    rates.barh(range(len(named)), [n for _, n in named], color=_BLUE)
    rates.set_yticks(range(len(named)), labels=[f"{rate:,} Hz" for rate, _ in named])
    rates.set(title="sample rates", xlabel="files")
    for axis in (durations.yaxis, rates.xaxis):
        axis.get_major_locator().set_params(integer=True)
