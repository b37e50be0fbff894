"""Load the settings from flags, environment variables, a TOML file and defaults."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ByteSize
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from service.settings.config import HEADINGS, SECRET, SETTINGS, ServiceConfig
from vggish.common.wording import one_line
from vggish.errors import OptionError

PREFIX = "AUDIOTAG_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
# Of other parts of audiotag.
_OTHER_VARIABLES = (CONFIG_VARIABLE, f"{PREFIX}HOME", f"{PREFIX}FFMPEG")
# A Kubernetes Service called audiotag puts AUDIOTAG_PORT=tcp://10.0.0.7:8000 into pods.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")


def flag(name: str) -> str:
    """The flag of a setting: "--max-uploads"."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """The environment variable of a setting: "AUDIOTAG_MAX_UPLOADS"."""
    return PREFIX + name.upper()


@dataclass(frozen=True)
class LoadedSettings:
    """A configuration, and the origin of each value: "default", "flag --port" or "file PATH".

    The notes are warnings about environment variables that look misspelt.
    """

    config: ServiceConfig
    origins: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """All settings as a settings file, each with its origin. API keys are hidden."""
        lines: list[str] = []
        for name in SETTINGS:
            if name in HEADINGS:
                lines += [""] * bool(lines) + [f"# {HEADINGS[name]}"]
            value, origin = getattr(self.config, name), one_line(self.origins[name])
            line = f"{name} = {as_toml(value)}"
            if name == SECRET and value:
                line = f"# {name}: hidden"
                origin += "; add them again to a file made from this output"
            lines.append(f"{line:<40}  # {origin}")
        return "\n".join(lines) + "\n"


def load_settings(flags: Mapping[str, str], config_file: str | None = None) -> LoadedSettings:
    """Read all settings; a flag overrides a variable, and a variable overrides the TOML file.

    Without a file, AUDIOTAG_CONFIG may name one. Raises OptionError.
    """
    where, path = "flag --config", config_file
    if path is None:
        where, path = f"environment variable {CONFIG_VARIABLE}", os.environ.get(CONFIG_VARIABLE)
    # pydantic-settings merges sources, too, but does not say which one a value comes from.
    values: dict[str, Any] = _read_toml(path, where) if path else {}
    origins = {**dict.fromkeys(SETTINGS, "default"), **dict.fromkeys(values, f"file {path}")}
    for name, value in _Environment(ServiceConfig)().items():
        values[name], origins[name] = value, f"environment variable {variable(name)}"
    for name, text in flags.items():
        values[name], origins[name] = _parsed(SETTINGS[name], text), f"flag {flag(name)}"
    return LoadedSettings(ServiceConfig(origins, **values), origins, tuple(_notes()))


class _Environment(EnvSettingsSource):
    """Environment variables, with numbers parsed and without the links of Kubernetes Services."""

    def prepare_field_value(
        self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool
    ) -> Any:
        is_text = isinstance(value, str) and not _SERVICE_LINK.match(value)
        return _parsed(field, value) if is_text else None


def _parsed(field: FieldInfo, text: str) -> Any:
    """Parse the number in a flag or variable; validation rejects text that is not a number."""
    with contextlib.suppress(ValueError):
        if field.annotation is int:
            return int(text)
        if field.annotation is float:
            return float(text)
    return text


def _read_toml(path: str, where: str) -> dict[str, Any]:
    try:
        open(path, "rb").close()  # pydantic-settings skips files that do not exist
        return TomlConfigSettingsSource(ServiceConfig, path)()
    except OSError as error:
        reason = error.strerror or error
        raise OptionError(f"cannot read the settings file {path}: {reason} ({where})") from error
    except ValueError as error:  # invalid TOML or UTF-8
        raise OptionError(f"the settings file {path} is not TOML: {error} ({where})") from error


def _notes() -> Iterator[str]:
    known = {*map(variable, SETTINGS), *_OTHER_VARIABLES}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1, cutoff=0.85)
            if near:
                yield f"the service ignores the variable {name}; did you mean {near[0]}?"


def as_toml(value: Any) -> str:
    """A value as in a settings file: `"256MiB"`, `["a", "b"]`, `8000`."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, (int, float)) and not isinstance(value, ByteSize):
        return repr(value)
    text = format_size(value) if isinstance(value, ByteSize) else str(value or "")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def format_size(size: ByteSize) -> str:
    """An exact size in the largest unit that divides it: "256MiB"."""
    units = ("TiB", "GiB", "MiB", "KiB", "B")
    unit = next(unit for unit in units if size.to(unit).is_integer())
    return f"{size.to(unit):.0f}{unit}"
