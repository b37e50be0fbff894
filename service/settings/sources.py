"""Where settings come from: flags, then the environment, then a file, then defaults."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.settings.config import SETTINGS, ServiceConfig
from service.settings.rules import checked
from service.settings.text import PREFIX, flag, from_text, from_toml, to_toml, variable
from vggish.common.extras import import_extra
from vggish.common.wording import one_line
from vggish.errors import OptionError

DEFAULT = "default"

CONFIG_VARIABLE = f"{PREFIX}CONFIG"

# Of other parts of audiotag.
_OTHER_VARIABLES = (CONFIG_VARIABLE, f"{PREFIX}HOME", f"{PREFIX}FFMPEG")

# A Kubernetes service called audiotag puts AUDIOTAG_PORT=tcp://10.0.0.7:8000 into its pods.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True)
class Settings:
    """A configuration that knows where each of its values comes from.

    Attributes:
        origins: name -> "default", "flag --port", "environment variable AUDIOTAG_PORT" or
            "file PATH".
        notes: sentences on what looks like a mistake, and may be none.
    """

    config: ServiceConfig
    origins: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """All settings as a settings file that gives them again; but keys, which it hides."""
        lines: list[str] = []
        title = ""
        for name, setting in SETTINGS.items():
            if setting.group != title:
                title = setting.group
                lines += [""] * bool(lines) + [f"# {title}"]
            origin, value = one_line(self.origins[name]), getattr(self.config, name)
            line = f"{name} = {to_toml(setting, value)}"
            if setting.rule.secret and value:
                line = f"# {name}: hidden"
                origin += "; a file made of this needs them again"
            lines.append(f"{line:<40}  # {origin}")
        return "\n".join(lines) + "\n"


def load_settings(
    flags: Mapping[str, str],
    config_file: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Find the value of each setting: a flag goes before a variable, and that before the file.

    Args:
        flags: name of a setting -> what its flag was given.
        config_file: a TOML file; None for that of AUDIOTAG_CONFIG, if there is one.
        environ: AUDIOTAG_PORT sets `port`, and so on; an empty variable sets nothing.

    Raises:
        OptionError: a value breaks its rule, or the file cannot be read or has other keys.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(SETTINGS, DEFAULT)
    for source in (_in_file(config_file, environ), _in_environment(environ), _in_flags(flags)):
        for name, value, where in source:
            values[name] = checked(SETTINGS[name], value, where)
            origins[name] = where
    try:
        config = ServiceConfig(**values)
    except OptionError as error:  # of what is in the file of keys; all else is checked
        raise OptionError(f"{error} ({origins['api_keys_file']})") from error
    return Settings(config, origins, tuple(_notes(environ)))


Source = Iterator[tuple[str, Any, str]]


def _in_flags(flags: Mapping[str, str]) -> Source:
    for name, text in flags.items():
        yield name, from_text(SETTINGS[name], text), f"flag {flag(name)}"


def _in_environment(environ: Mapping[str, str]) -> Source:
    for name, setting in SETTINGS.items():
        text = environ.get(variable(name), "")
        if text and not _SERVICE_LINK.match(text):
            yield name, from_text(setting, text), f"environment variable {variable(name)}"


def _in_file(path: str | None, environ: Mapping[str, str]) -> Source:
    where = "flag --config"
    if path is None:
        path, where = environ.get(CONFIG_VARIABLE), f"environment variable {CONFIG_VARIABLE}"
    if not path:
        return
    for name, value in _read_toml(path, where).items():
        if name not in SETTINGS:
            near = difflib.get_close_matches(name.lower().replace("-", "_"), SETTINGS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "audiotag serve --help names them all"
            raise OptionError(f"there is no setting {name!r}; {hint} (file {path})")
        yield name, from_toml(SETTINGS[name], value), f"file {path}"


def _read_toml(path: str, where: str) -> dict[str, Any]:
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    tomllib = import_extra(name, extra="serve", purpose="a settings file")
    try:
        found: dict[str, Any] = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise OptionError(f"cannot read the settings file {path}: {reason} ({where})") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise OptionError(f"the settings file {path} is not TOML: {error} ({where})") from error
    return found


def _notes(environ: Mapping[str, str]) -> Iterator[str]:
    """Variables that nothing reads, and that are nearly called as one that is read."""
    known = {*map(variable, SETTINGS), *_OTHER_VARIABLES}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1, cutoff=0.85)
            if near:
                yield f"the service does not read the variable {name}; did you mean {near[0]}?"
