"""Settings as text: as flags and variables have it, as a settings file does, and as told."""

from __future__ import annotations

import json
import re
from typing import Any

from service.settings.rules import Setting

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
    return _quoted(format_size(value) if setting.kind == "size" else str(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _size(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    units = {unit.lower(): n_bytes for unit, n_bytes in _UNITS.items()}
    if found is None or found[2] not in units:
        raise ValueError(text)
    return round(float(found[1]) * units[found[2]])


def format_size(n_bytes: int) -> str:
    unit = next(unit for unit in ("TiB", "GiB", "MiB", "KiB", "B") if n_bytes % _UNITS[unit] == 0)
    return f"{n_bytes // _UNITS[unit]}{unit}"
