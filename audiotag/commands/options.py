"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiotag.terminal.stderr import print_status, warn_bad_records
from vggish.common.choices import DEVICES, EMBEDDERS
from vggish.errors import OptionError

if TYPE_CHECKING:
    from classifier.fit import LabelledClips
    from classifier.frame_data.clip_store import ClipStore
    from classifier.labels import Labels
    from vggish.common.choices import Precision
    from vggish.extractor import Extractor


DEFAULT_JOBS = 2


def add_common(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--quiet", "-q", action="store_true", help="only errors on stderr")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")


def option_name(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="sound file, directory (searched through), 'pattern', or - for standard input",
    )
    parser.add_argument(
        "--files-from", metavar="FILE", help="more inputs, one a line (- for standard input)"
    )


def input_names(options: argparse.Namespace, command: str) -> list[str]:
    """What `add_inputs` takes, at least one."""
    from vggish.audio.inputs import read_list

    names = list(options.inputs)
    if options.files_from is not None:
        names += read_list(options.files_from)
    if not names:
        raise OptionError(f"nothing to {command}: name a sound file, a directory, or -")
    return names


def add_device(group: Any) -> None:
    group.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="auto (default) takes a GPU if onnxruntime has one",
    )


def add_embedder(group: Any, meaning: str) -> None:
    group.add_argument("--embedder", choices=EMBEDDERS, help=meaning)


def make_extractor(
    options: argparse.Namespace, precision: Precision | None = None, **method: Any
) -> Extractor:
    """The extractor of `--embedder`; says which embedder it is where that was left to audiotag."""
    from vggish.api import load_extractor
    from vggish.embedders.choice import find_embedder

    choice = find_embedder("auto" if options.embedder is None else options.embedder, precision)
    extractor = load_extractor(choice.name, precision=choice.precision, **method)
    if choice.reason:
        print_status(options, choice.reason)
    return extractor


def add_frames(group: Any, option: str, meaning: str, *, required: bool = False) -> None:
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


def add_labels_option(group: Any, meaning: str) -> None:
    group.add_argument(
        "--labels", type=Path, metavar="CSV", help=f"{meaning}: columns index, mid, display_name"
    )


def add_max_bad(group: Any) -> None:
    group.add_argument(
        "--max-bad",
        type=_whole_number,
        default=0,
        metavar="N",
        help="damaged records or files that are left out and named before that is an error "
        "(default 0)",
    )


def nonempty_name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; is a variable not set?")
    return text


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more. Received: {text}")
    return int(text)


def labelled_frames(
    options: argparse.Namespace, arguments: Sequence[str], labels: Labels
) -> LabelledClips:
    from classifier.fit import LabelledClips

    return LabelledClips(load_frames(options, arguments), labels, arguments)


def load_frames(options: argparse.Namespace, arguments: Sequence[str]) -> ClipStore:
    from classifier.frame_data.clip_store import load_clips
    from classifier.frame_data.clips import ReadReport
    from classifier.frame_data.finding import find_frame_files

    report = ReadReport()
    store = load_clips(find_frame_files(arguments), max_bad=options.max_bad, report=report)
    warn_bad_records(options, report)
    return store


def add_force(group: Any) -> None:
    group.add_argument(
        "--force", action="store_true", help="also take frames of an embedder it is not made for"
    )


def read_json(path: Path) -> dict[str, Any]:
    import json

    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(f"cannot read {path} as a JSON object: {error}") from error
