"""Command-line flags and documentation of the settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from service.settings.config import SETTINGS
from service.settings.rules import Setting
from service.settings.text import flag, format_size, variable

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
    return format_size(default) if setting.kind == "size" else str(default)
