"""What a setting may be: its kind, its bounds, its choices, and rules of its own."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from vggish.errors import OptionError

Kind = Literal["text", "whole", "number", "size", "list", "path"]

ANY = math.inf


@dataclass(frozen=True)
class Rule:
    """What holds of the values of a setting, and what it decides.

    Attributes:
        help: what it decides, for `--help` and the documentation.
        least, most: of a number, or of the length of a list.
        choices: all that it can be, if these are few.
        check: what else must hold of a value, or of each item: raises ValueError with the rule.
        kind: of its values; None for that of its default.
        optional: whether it can be None.
        secret: whether its value is never shown, nor given by a flag.
    """

    help: str
    least: float = -ANY
    most: float = ANY
    choices: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None
    kind: Kind | None = None
    optional: bool = False
    secret: bool = False


@dataclass(frozen=True)
class Setting:
    """A field of the configuration, with its rule and the heading it stands under."""

    name: str
    kind: Kind
    default: Any
    group: str
    rule: Rule


def checked(setting: Setting, value: Any, where: str = "") -> Any:
    """A value as the configuration has it: tuples for lists, paths for text that is one.

    Args:
        setting: what the value is of.
        value: of the setting's type, or nearly.
        where: it comes from, to be told in an error.

    Raises:
        OptionError: it breaks the setting's rule.
    """
    rule = setting.rule
    if value is None and rule.optional:
        return None
    try:
        found = _typed(setting, value)
        n = len(found) if setting.kind == "list" else found
        if isinstance(n, (int, float)) and not rule.least <= n <= rule.most:
            raise ValueError(_bounds(setting))
        if rule.choices and found not in rule.choices:
            raise ValueError(f"must be one of {', '.join(rule.choices)}")
        if rule.check is not None:
            for item in found if setting.kind == "list" else (found,):
                rule.check(item)
    except ValueError as error:
        raise refusal(setting, str(error), value, where) from None
    return found


def refusal(setting: Setting, must: str, value: object, where: str = "") -> OptionError:
    """The error of a value that breaks a rule. It has the value, unless that is secret."""
    shown = list(value) if isinstance(value, tuple) else value
    received = "(hidden)" if setting.rule.secret else repr(str(shown) if isinstance(
        shown, os.PathLike) else shown)  # fmt: skip
    return OptionError(
        f"{setting.name} {must}. Received: {received}{f' ({where})' if where else ''}"
    )


def _typed(setting: Setting, value: Any) -> Any:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if setting.kind in ("whole", "size"):
        if not is_whole:
            raise ValueError(_bounds(setting))
        return value
    if setting.kind == "number":
        if not (is_whole or isinstance(value, float)) or not math.isfinite(value):
            raise ValueError(_bounds(setting))
        return float(value)
    if setting.kind == "list":
        if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
            raise ValueError("must be a list of texts")
        return tuple(dict.fromkeys((value,) if isinstance(value, str) else value))
    if setting.kind == "path" and isinstance(value, (str, Path)):
        return Path(value)
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def _bounds(setting: Setting) -> str:
    rule = setting.rule
    what = {
        "whole": "a whole number",
        "number": "a number",
        "size": 'a number of bytes, or a size such as "256MiB",',
        "list": "a list",
    }[setting.kind]
    items = " items" if setting.kind == "list" else ""
    if rule.most == ANY:
        at_least = "of at least" if items else "that is at least"
        return f"must be {what} {at_least} {rule.least:g}{items}"
    return f"must be {what} from {rule.least:g} to {rule.most:.12g}{items}"


# --- rules of single settings ----------------------------------------------------------------


def host(text: str) -> None:
    """An address or a name, and nothing around it."""
    if not text or re.search(r"[/\[\]\s]", text):
        raise ValueError(
            "must be an address or a name alone, such as 127.0.0.1, ::1, or 0.0.0.0 for all "
            "addresses of this machine"
        )


def origin(text: str) -> None:
    """What a browser sends in the header Origin; or all."""
    parts = urlsplit(text)
    normal = f"{parts.scheme}://{parts.netloc}".lower()
    is_web = parts.scheme in ("http", "https") and parts.netloc
    if text != "*" and (not is_web or text != normal):
        raise ValueError(
            "must have origins such as https://example.org, in small letters and without a "
            "path, or * for all"
        )


def network(text: str) -> None:
    """An address, or a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must have addresses or networks such as 10.0.0.1 or 10.0.0.0/8") from None


def root_path(text: str) -> None:
    """What comes before all paths."""
    if text and not re.fullmatch(r"(/[\w.~-]+)+", text, re.ASCII):
        raise ValueError("must be empty, or begin with / and not end with it, such as /audiotag")


def key(text: str) -> None:
    """What a header can carry."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be printable ASCII characters without spaces")


def writable_directory(path: Path) -> None:
    """A directory for temporary files."""
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise ValueError("must be a directory that can be written to")


def name(text: str) -> None:
    """Not nothing."""
    if not text.strip():
        raise ValueError("must not have empty items")
