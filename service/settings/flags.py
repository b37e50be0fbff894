"""Command-line flags and documentation generated from the settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from service.settings.config import HEADINGS, SECRET, SETTINGS
from service.settings.sources import flag, format_size, variable

_METAVARS: dict[Any, str] = {int: "N", float: "X", ByteSize: "SIZE", tuple: "A,B", Path: "PATH"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting but the API keys, in groups.

    pydantic-settings can do so, too, but without groups and sizes, and with a flag for the keys.
    """
    group: Any = parser
    for name, field in SETTINGS.items():
        if name in HEADINGS:
            group = parser.add_argument_group(HEADINGS[name])
        if name == SECRET:
            group.description = (
                f"{variable(name)}, or {name} in the settings file: {field.description}. "
                "There is no flag, since other users of the machine could read it."
            )
            # Without this, argparse would take the key for an abbreviation or a file, and print it.
            group.add_argument(flag(name), "--api-key", help=argparse.SUPPRESS, type=_refuse_key)
            continue
        kind, choices = _type(field)
        group.add_argument(
            flag(name),
            action="append" if kind is tuple else "store",
            metavar=f"{{{','.join(choices)}}}" if choices else _METAVARS.get(kind, "TEXT"),
            help=f"{field.description} (default: {_default(field)})",
        )


def _refuse_key(_: str) -> str:
    raise argparse.ArgumentTypeError(
        "there is no such flag, since other users of the machine could read it; use "
        f"--api-keys-file, {variable(SECRET)}, or {SECRET} in the settings file"
    )


def flags_of(options: argparse.Namespace) -> dict[str, str]:
    """The flags that were given, by setting; values of a repeated flag are joined by commas."""
    given = {name: getattr(options, name, None) for name in SETTINGS}
    return {
        name: ",".join(text) if isinstance(text, list) else text
        for name, text in given.items()
        if text is not None
    }


def as_markdown() -> str:
    """The tables of all settings in docs/service.md."""
    lines: list[str] = []
    for name, field in SETTINGS.items():
        if name in HEADINGS:
            lines += ["", f"**{HEADINGS[name].capitalize()}**", ""]
            lines += ["| setting | variable | default | description |", "|---|---|---|---|"]
        default, choices = _default(field), ", ".join(_type(field)[1])
        default = default if default == "none" else f"`{default}`"
        text = f"{field.description} ({choices})" if choices else field.description
        lines.append(f"| `{name}` | `{variable(name)}` | {default} | {text} |")
    return "\n".join(lines[1:]) + "\n"


def _type(field: FieldInfo) -> tuple[Any, tuple[str, ...]]:
    """The type of a setting's values, and their list if there is a fixed one."""
    annotation = field.annotation
    if type(None) in get_args(annotation):
        annotation = get_args(annotation)[0]
    origin = getattr(annotation, "__origin__", annotation)
    return origin, get_args(annotation) if origin is Literal else ()


def _default(field: FieldInfo) -> str:
    default = field.default
    if default in (None, "", ()):
        return "none"
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, float):
        return f"{default:g}"
    return format_size(default) if isinstance(default, ByteSize) else str(default)
