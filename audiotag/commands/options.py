"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiotag.terminal.stderr import log
from classifier.frame_data.clips import ReadReport
from vggish.api import load_extractor
from vggish.audio.inputs import read_list
from vggish.common.choices import DEVICES, EMBEDDERS, EmbedderName, Precision
from vggish.embedders.choice import find_embedder
from vggish.errors import OptionError
from vggish.extractor import Extractor

DEFAULT_JOBS = 2


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """Options of every command but `serve`."""

    quiet: bool
    debug: bool

    def log(self, message: str) -> None:
        """Print a line to stderr, unless --quiet is given."""
        if not self.quiet:
            log(message)

    def warn_bad_records(self, report: ReadReport) -> None:
        """Print the warnings of reading frames."""
        for warning in report.warnings():
            self.log(f"warning: {warning}")


def option_name(field: str) -> str:
    """The option that a field of options is parsed from."""
    return f"--{field.replace('_', '-')}"


def add_common(parser: argparse._ActionsContainer) -> None:
    """Add --quiet and --debug."""
    parser.add_argument("--quiet", "-q", action="store_true", help="print only errors to stderr")
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the audio files of a command; see `input_names`."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="audio file, directory to search, quoted pattern, or - for standard input",
    )
    parser.add_argument(
        "--files-from",
        metavar="FILE",
        help="read more inputs from a file, one per line (- for standard input)",
    )


def input_names(inputs: Sequence[str], files_from: str | None, command: str) -> list[str]:
    """The inputs of `add_inputs`, at least one."""
    names = [*inputs, *([] if files_from is None else read_list(files_from))]
    if not names:
        raise OptionError(f"nothing to {command}: name an audio file, a directory, or -")
    return names


def add_device(group: argparse._ActionsContainer) -> None:
    """Add --device."""
    group.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="where to run the networks: auto uses a GPU if ONNX Runtime supports it "
        "(default: auto)",
    )


def load_chosen_extractor(
    options: CommonOptions,
    embedder: EmbedderName | None,
    precision: Precision | None = None,
    **how: Any,
) -> Extractor:
    """Load an extractor, and log which embedder was chosen if the user left that open."""
    choice = find_embedder("auto" if embedder is None else embedder, precision)
    extractor = load_extractor(choice.name, precision=choice.precision, **how)
    if choice.reason:
        options.log(choice.reason)
    return extractor


def add_embedder(group: argparse._ActionsContainer) -> None:
    """Add --embedder, where None stands for auto."""
    group.add_argument(
        "--embedder",
        choices=EMBEDDERS,
        help="network that embeds audio: auto is VGGish if it is installed, else the built-in "
        "mini (default: auto)",
    )


def add_frames(
    group: argparse._ActionsContainer, option: str, meaning: str, *, required: bool = False
) -> None:
    """Add an option that names files of frames."""
    group.add_argument(
        option,
        type=nonempty_name,
        nargs="+",
        action="extend",
        default=[],
        required=required,
        metavar="FILE",
        help=meaning,
    )


def add_labels_option(group: argparse._ActionsContainer, meaning: str) -> None:
    """Add --labels, a CSV of class names."""
    group.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help=f"{meaning}, with the columns index, mid, display_name",
    )


def add_max_bad(group: argparse._ActionsContainer) -> None:
    """Add --max-bad."""
    group.add_argument(
        "--max-bad",
        type=_whole_number,
        default=0,
        metavar="N",
        help="number of damaged records or files to skip with a warning before giving up "
        "(default: 0)",
    )


def add_force(group: argparse._ActionsContainer) -> None:
    """Add --force."""
    group.add_argument(
        "--force",
        action="store_true",
        help="accept frames of an embedder that the bundle was not trained on",
    )


def nonempty_name(text: str) -> str:
    """The type of an argument that must not be empty."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; is a variable not set?")
    return text


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more. Received: {text}")
    return int(text)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that an option names."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(f"cannot read {path} as a JSON object: {error}") from error
