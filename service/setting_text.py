"""Settings as text: as flags and variables have it, as a settings file does, and as told."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from service.config import SETTINGS
from service.rules import Setting

PREFIX = "AUDIOTAG_"
_UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**n for n, letter in enumerate("kMGT", 1)},
    **{f"{letter}iB": 1024**n for n, letter in enumerate("KMGT", 1)},
}


def flag(name: str) -> str:
    """The flag of a setting: "--max-uploads"."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """The environment variable of a setting: "AUDIOTAG_MAX_UPLOADS"."""
    return PREFIX + name.upper()


# --- text -> value; what is none stays, for `rules.checked` to say what it should be -----------


def from_text(setting: Setting, text: str) -> Any:
    """What a flag or a variable says."""
    if not text and (setting.rule.optional or setting.kind == "list"):
        return None if setting.rule.optional else ()
    if setting.kind == "list":
        return tuple(item.strip() for item in text.split(","))
    try:
        if setting.kind == "size":
            return _size(text)
        if setting.kind in ("whole", "number"):
            return int(text) if setting.kind == "whole" else float(text)
    except ValueError:
        pass
    return text


def from_toml(setting: Setting, value: Any) -> Any:
    """What a settings file says; TOML knows no None, and no sizes."""
    if isinstance(value, str) and (setting.rule.optional or setting.kind == "size"):
        return from_text(setting, value)
    return value


def to_toml(setting: Setting, value: Any) -> str:
    """A value as a settings file has it."""
    if value is None:
        return '""'
    if setting.kind == "list":
        return f"[{', '.join(map(_quoted, value))}]"
    if setting.kind in ("whole", "number"):
        return repr(value)
    return _quoted(_sized(value) if setting.kind == "size" else str(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _size(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    units = {unit.lower(): n_bytes for unit, n_bytes in _UNITS.items()}
    if found is None or found[2] not in units:
        raise ValueError(text)
    return round(float(found[1]) * units[found[2]])


def _sized(n_bytes: int) -> str:
    unit = next(unit for unit in ("TiB", "GiB", "MiB", "KiB", "B") if n_bytes % _UNITS[unit] == 0)
    return f"{n_bytes // _UNITS[unit]}{unit}"


# --- the command line and the documentation ---------------------------------------------------


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Give a parser a flag for each setting that is not secret, in groups."""
    for title, settings in _groups():
        group = parser.add_argument_group(title)
        for setting in settings:
            if setting.rule.secret:
                group.description = (
                    f"{variable(setting.name)}, or {setting.name} in the settings file: "
                    f"{setting.rule.help}. There is no flag, for others could read what it says."
                )
                # Refused by name, or what it was given would be in the error, or taken for a file.
                name = flag(setting.name)
                group.add_argument(
                    name, name.removesuffix("s"), help=argparse.SUPPRESS, type=_no_flag(setting)
                )
                continue
            group.add_argument(
                flag(setting.name),
                action="append" if setting.kind == "list" else "store",
                metavar=_metavar(setting),
                help=f"{setting.rule.help} (default: {_default(setting)})",
            )


def _no_flag(setting: Setting) -> Callable[[str], str]:
    def refuse(_: str) -> str:
        raise argparse.ArgumentTypeError(
            f"there is no such flag, for others could read what it says; use {flag(setting.name)}"
            f"-file, {variable(setting.name)}, or {setting.name} in the settings file"
        )

    return refuse


def flags_of(options: argparse.Namespace) -> dict[str, str]:
    """What the flags of `add_flags` were given, those that were; a list's may come repeatedly."""
    given = {name: getattr(options, name, None) for name in SETTINGS}
    return {
        name: ",".join(text) if isinstance(text, list) else text
        for name, text in given.items()
        if text is not None
    }


def as_markdown() -> str:
    """The table of all settings, for the documentation."""
    lines: list[str] = []
    for title, settings in _groups():
        lines += [f"**{title.capitalize()}**", "", "| setting | variable | default | |"]
        lines.append("|---|---|---|---|")
        for setting in settings:
            default = _default(setting)
            shown = default if default == _NONE else f"`{default}`"
            what = setting.rule.help
            if setting.rule.choices:
                what += f" ({', '.join(setting.rule.choices)})"
            lines.append(f"| `{setting.name}` | `{variable(setting.name)}` | {shown} | {what} |")
        lines.append("")
    return "\n".join(lines)


_NONE = "none"


def _groups() -> Iterator[tuple[str, list[Setting]]]:
    for title in dict.fromkeys(setting.group for setting in SETTINGS.values()):
        yield title, [setting for setting in SETTINGS.values() if setting.group == title]


def _metavar(setting: Setting) -> str:
    if setting.rule.choices:
        return f"{{{','.join(setting.rule.choices)}}}"
    by_kind = {"whole": "N", "number": "X", "size": "SIZE", "list": "A,B", "path": "PATH"}
    return by_kind.get(setting.kind, "TEXT")


def _default(setting: Setting) -> str:
    default = setting.default
    if default in (None, "", ()):
        return _NONE
    if setting.kind == "list":
        return ",".join(default)
    if setting.kind == "number":
        return f"{default:g}"
    return _sized(default) if setting.kind == "size" else str(default)
