"""Options of commands as fields of a dataclass, and those that several commands share."""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from audiotag.terminal.streams import log
from vggish.common.search import read_list
from vggish.errors import OptionError

if TYPE_CHECKING:
    from classifier.frame_data.clips import ReadReport  # loads numpy


def option(
    help: str = "",  # noqa: A002 - as argparse calls it
    metavar: str | None = None,
    *,
    flags: str = "",
    group: str = "",
    constants: Mapping[str, str] | None = None,
    **settings: Any,
) -> Any:
    """Make a dataclass field that `add_options` adds to a parser.

    Args:
        help: of the option.
        metavar: of its value.
        flags: such as "-o --out", by default the name of the field; the name alone is positional.
        group: title of the group that begins with this option.
        constants: in place of an option, the values of flags `--VALUE` and the help of each;
            these exclude each other.
        settings: further arguments of `add_argument`; most follow from the annotation.
    """
    settings |= {"help": help} if metavar is None else {"help": help, "metavar": metavar}
    metadata = {"flags": flags, "group": group, "constants": constants, "settings": settings}
    return dataclasses.field(default=settings.get("default"), metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """Options of every command but `serve`."""

    quiet: bool = option("print only errors to stderr", flags="--quiet -q")
    debug: bool = option("print the traceback of an error")

    def log(self, message: str) -> None:
        """Print a line to stderr, unless --quiet is given."""
        if not self.quiet:
            log(message)

    def warn_bad_records(self, report: ReadReport) -> None:
        """Print the warnings of reading frames."""
        for warning in report.warnings():
            self.log(f"warning: {warning}")


def add_options(parser: argparse.ArgumentParser, options: type, common_group: str = "") -> None:
    """Add the fields of a dataclass that are options to a parser.

    The fields are added in their order, but those of `CommonOptions` last, to the group with the
    title `common_group` or else to the last one. The title of the parser's own group is "options".
    """
    hints, common = get_type_hints(options), CommonOptions.__dataclass_fields__
    groups: dict[str, argparse._ActionsContainer] = {"options": parser}
    title = "options"
    for field in sorted(dataclasses.fields(options), key=lambda field: field.name in common):
        if not field.metadata:
            continue
        title = field.metadata["group"] or (field.name in common and common_group) or title
        group = groups.get(title) or groups.setdefault(title, parser.add_argument_group(title))
        if constants := field.metadata["constants"]:
            flags = group.add_mutually_exclusive_group()
            for value, meaning in constants.items():
                how = {"action": "store_const", "const": value, "help": meaning}
                flags.add_argument(f"--{value}", dest=field.name, **how)
            continue
        names = field.metadata["flags"].split() or [option_name(field.name)]
        derived = _derived_settings(hints[field.name], is_positional=names == [field.name])
        group.add_argument(*names, **{**derived, **field.metadata["settings"]})


def _derived_settings(annotation: Any, *, is_positional: bool) -> dict[str, Any]:
    """The arguments of `add_argument` that follow from the annotation of a field."""
    kinds = get_args(annotation)
    is_optional = type(None) in kinds
    kind = kinds[0] if is_optional else annotation
    if kind is bool:
        return {"action": "store_true"}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    settings: dict[str, Any] = {"nargs": "?"} if is_positional and is_optional else {}
    if get_origin(kind) is collections.abc.Sequence:
        (kind,) = get_args(kind)
        settings = {"action": "append"} if is_optional else {"nargs": "+"}
        if not (is_optional or is_positional):
            settings |= {"action": "extend", "default": []}
    return settings if kind is str else {**settings, "type": kind}


def option_name(field: str) -> str:
    """The option that a field of options is parsed from."""
    return f"--{field.replace('_', '-')}"


def _stream_number(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more. Received: {text}")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class InputOptions(CommonOptions):
    """Options of a command that reads audio files."""

    inputs: Sequence[str] = option(
        "audio file, directory to search, quoted pattern, or - for standard input",
        "INPUT",
        flags="inputs",
        nargs="*",
    )
    files_from: str | None = option(
        "read more inputs from a file, one per line (- for standard input)", "FILE"
    )
    stream: int | None = option(
        "number of the audio stream, from 1, in files with several (default: the one marked as "
        "default, or else the first with sound)",
        "N",
        type=_stream_number,
    )

    def input_names(self, command: str) -> list[str]:
        """The inputs of both options, at least one."""
        names = [*self.inputs, *([] if self.files_from is None else read_list(self.files_from))]
        if not names:
            raise OptionError(f"nothing to {command}: name an audio file, a directory, or -")
        return names


def nonempty_name(text: str) -> str:
    """The type of an argument that must not be empty."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; is a variable not set?")
    return text


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more. Received: {text}")
    return int(text)


# Settings of options that several commands have, each at its own place.
BUNDLE: Mapping[str, Any] = {
    "type": nonempty_name,
    "metavar": "BUNDLE",
    "help": "a bundle, a run, or a built-in model such as audioset-gru or audioset-best",
}
DEVICE: Mapping[str, Any] = {
    "default": "auto",
    "help": "where to run the networks: auto uses a GPU if ONNX Runtime supports it "
    "(default: auto)",
}
EMBEDDER: Mapping[str, Any] = {
    "help": "network that embeds audio: auto is VGGish if it is installed, else the built-in "
    "mini (default: auto)"
}
FORCE: Mapping[str, Any] = {
    "help": "accept frames of an embedder that the bundle was not trained on"
}
FRAMES: Mapping[str, Any] = {"type": nonempty_name, "metavar": "FILE"}
MAX_BAD: Mapping[str, Any] = {
    "type": _whole_number,
    "default": 0,
    "metavar": "N",
    "help": "number of damaged records or files to skip with a warning before giving up "
    "(default: 0)",
}
