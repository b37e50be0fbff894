"""The options of `audiotag classify`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiotag.commands.options import DEVICE, FORCE, InputOptions, option, option_name
from audiotag.terminal.outputs import check_one_destination
from audiotag.terminal.streams import STDOUT
from classifier.output.formats import SUFFIXES, TagFormat, format_of
from classifier.tags.choice import Choice, ChoiceOptions
from vggish.audio.inputs import Item
from vggish.common.choices import Device, EmbedderName, Precision
from vggish.errors import OptionError

# What --live cannot be combined with.
_NOT_LIVE = (
    *("inputs", "files_from", "stream", "out", "out_dir", "plot", "server", "api_key_file"),
    *("file_format", "bom", "frames", "segments"),
)


@dataclass(frozen=True, kw_only=True)
class Options(InputOptions):
    """The options of `audiotag classify`.

    Raises:
        OptionError: a value is out of range, or options cannot be combined.
    """

    live: bool = option("tag the microphone, and print a line each 0.96 s", group="microphone")
    live_device: str | None = option(
        "microphone to use, by its number or words of its name (default: the system's)", "NAME"
    )
    model: str | None = option(
        "a bundle, a run, or the name of a built-in model (default: audioset)",
        "BUNDLE",
        group="model",
    )
    embedder: EmbedderName = option(
        "network that embeds the audio: auto is the one that the model was trained on, and "
        "VGGish if it was trained on both (default: auto)",
        default="auto",
    )
    precision: Precision | None = option("precision of VGGish (default: float32)")
    device: Device = option(**DEVICE)
    force: bool = option(**FORCE)
    server: str | None = option(
        "send the clips to an audiotag service instead, with the key of --api-key-file or "
        "AUDIOTAG_API_KEY; --model then names one of its models",
        "URL",
    )
    api_key_file: str | None = option("file with the key for --server", "FILE")
    top_k: int = option("maximum number of tags (default: 5)", "K", group="tags", default=5)
    threshold: float = option("minimum score of a tag, from 0 to 1 (default: 0)", "X", default=0.0)
    labels: Sequence[str] | None = option(
        "class to report, by name or AudioSet id; may be repeated (default: all)", "NAME"
    )
    exclude_labels: Sequence[str] | None = option(
        "class to leave out, by name or AudioSet id; may be repeated", "NAME"
    )
    frames: bool = option("add the tags of each 0.96 s to JSON and CSV")
    segments: bool = option(
        "report when each tag occurs: a list in JSON, one row per span in CSV and tables"
    )
    out: str | None = option(
        "file to write (.csv, .json, .jsonl, .srt, .selections.txt, .txt; default: print)",
        "FILE",
        flags="-o --out",
        group="output",
        # A stdout that leads to a file must not be replaced by another file.
        type=lambda name: STDOUT if name in ("/dev/stdout", "/dev/fd/1") else name,
    )
    out_dir: str | None = option("directory for one file per input, in the same tree", "DIR")
    file_format: str | None = option(
        constants={
            "json": "write JSON; for several files, one line each",
            "csv": "write CSV, with a row per tag",
            "srt": "write subtitles, for players",
            "audacity": "write an Audacity label track",
            "raven": "write a Raven Pro selection table",
        }
    )
    bom: bool = option("start CSV with a byte order mark, so that Excel reads it as UTF-8")
    plot: str | None = option(
        "also draw a plot (.png, .svg, .pdf); for several inputs, a directory for the plots", "PNG"
    )

    def __post_init__(self) -> None:
        Choice(**self.choice)
        if self.live:
            self._check_live()
            return
        for name, needed in (("live_device", "live"), ("api_key_file", "server")):
            if getattr(self, name) is not None and not getattr(self, needed):
                raise OptionError(f"{option_name(name)} is for --{needed}, which is missing")
        kind = self.tag_format.file_format
        if self.frames and kind not in ("json", "csv"):
            raise OptionError(
                "--frames needs --json or --csv; the table shows when each class is detected"
            )
        if self.frames and self.segments and kind == "csv":
            raise OptionError("a CSV has rows of --frames or of --segments; --json has both")
        if self.bom and kind != "csv":
            raise OptionError("--bom is for CSV: add --csv, or name a .csv file with -o")
        check_one_destination(self.out, self.out_dir)
        if self.out is not None and self.out.endswith(("/", os.sep)):
            raise OptionError(
                f"-o {self.out} names a directory; use --out-dir for one file per input"
            )
        if self.out_dir == "":
            raise OptionError("--out-dir must name a directory. Received: ''")
        if self.out_dir is not None and os.path.isfile(self.out_dir):
            raise OptionError(f"cannot write --out-dir {self.out_dir}: it is a file")
        if self.plot == STDOUT:
            raise OptionError("a plot cannot be written to standard output: --plot needs a name")

    def _check_live(self) -> None:
        for name in _NOT_LIVE:
            value = getattr(self, name)
            if value not in (None, False, []) and (name, value) != ("file_format", "json"):
                if name == "file_format":
                    name = str(value)
                shown = {"inputs": "inputs", "out": "-o"}.get(name, option_name(name))
                raise OptionError(f"--live takes no {shown}: it prints lines, or JSON with --json")

    @property
    def choice(self) -> ChoiceOptions:
        """The options that select tags."""
        return {
            "top_k": self.top_k,
            "threshold": self.threshold,
            "labels": self.labels,
            "exclude_labels": self.exclude_labels,
        }

    @property
    def tag_format(self) -> TagFormat:
        """The format of the tags: that of an option, or of the suffix of -o."""
        kind = self.file_format or ("table" if self.out is None else format_of(self.out))
        return TagFormat(kind, self.frames, self.segments)

    def text_path(self, item: Item) -> Path:
        """The file of a clip's tags below --out-dir."""
        return Path(self.out_dir or "") / f"{item.stem}{SUFFIXES[self.tag_format.file_format]}"

    def plot_path(self, item: Item, n_clips: int) -> Path | None:
        """The file of a clip's plot; None without --plot.

        Raises:
            OptionError: --plot names one file, and there are several clips.
        """
        if self.plot is None:
            return None
        if self.plot.endswith(("/", os.sep)) or os.path.isdir(self.plot):
            return Path(self.plot) / f"{item.stem}.png"
        if n_clips > 1:
            raise OptionError(
                f"--plot {self.plot} names one plot, but there are {n_clips} clips: name a "
                "directory, as --plot plots/"
            )
        return Path(self.plot)
