"""The settings of the service, in one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from service.settings import rules
from service.settings.rules import Kind, Rule, Setting, checked, refusal
from vggish.params import MAX_SOURCE_RATE_HZ, MIN_SOURCE_RATE_HZ

if TYPE_CHECKING:
    from vggish.common.choices import Device, EmbedderName, Precision


MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True, repr=False)
class ServiceConfig:
    """All settings of the service, checked; `SETTINGS` says what each of them decides.

    Lists are taken for tuples, and text for paths. API keys are not in its `repr`.

    Raises:
        OptionError: a value breaks its rule, or there are no keys in `api_keys_file`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    models: tuple[str, ...] = ("audioset",)
    embedder: EmbedderName = "auto"
    precision: Precision | None = None
    device: Device = "auto"
    max_upload_bytes: int = 256 * MIB
    max_batch_files: int = 16
    max_audio_seconds: float = 3600.0
    max_channels: int = 32
    max_sample_rate_hz: int = MAX_SOURCE_RATE_HZ
    max_decoded_bytes: int = 4 * GIB
    threads: int = 0
    queue_size: int = 64
    max_uploads: int = 128
    batch_window_ms: float = 2.0
    full_batch_patches: int = 8
    upload_timeout_seconds: float = 60.0
    upload_idle_seconds: float = 10.0
    request_timeout_seconds: float = 60.0
    shutdown_seconds: float = 30.0
    max_streams: int = 16
    stream_idle_seconds: float = 60.0
    reload_seconds: float = 5.0
    api_keys: tuple[str, ...] = ()
    api_keys_file: Path | None = None
    rate_limit_per_minute: int = 0
    max_requests_per_client: int = 64
    max_streams_per_client: int = 8
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    root_path: str = ""
    temporary_directory: Path | None = None
    log_format: str = "auto"
    log_level: str = "info"
    _keys: tuple[str, ...] = field(default=(), init=False, compare=False)

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            object.__setattr__(self, name, checked(setting, getattr(self, name)))
        keys = self.api_keys + (() if self.api_keys_file is None else keys_in(self.api_keys_file))
        object.__setattr__(self, "_keys", tuple(dict.fromkeys(keys)))

    def __repr__(self) -> str:
        shown = [
            f"{name}={'(hidden)' if setting.rule.secret else repr(getattr(self, name))}"
            for name, setting in SETTINGS.items()
            if getattr(self, name) != setting.default
        ]
        return f"ServiceConfig({', '.join(shown)})"

    @property
    def keys(self) -> tuple[str, ...]:
        """All API keys, those of `api_keys_file` among them; empty where anybody may ask."""
        return self._keys


def keys_in(path: Path, where: str = "") -> tuple[str, ...]:
    """The keys of a file: one a line; # begins a comment.

    Raises:
        OptionError: the file cannot be read, holds no key, or something that is none.
    """
    setting = SETTINGS["api_keys_file"]
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise refusal(setting, f"must be a file that can be read: {reason}", path, where) from error
    keys = [key for line in lines if (key := line.partition("#")[0].strip())]
    if not keys:
        raise refusal(setting, "must hold a key, for without one anybody may ask", path, where)
    try:
        for key in keys:
            rules.key(key)
    except ValueError as error:
        raise refusal(
            setting, f"must have keys that are legal: they {error}", path, where
        ) from None
    return tuple(keys)


# Longer waits than this are a mistake, and too long for some clocks.
_LONGEST_SECONDS = 1e6

_TABLE: dict[str, dict[str, Rule]] = {
    "address": {
        "host": Rule(
            "address to listen on; 0.0.0.0 or :: for all of this machine", check=rules.host
        ),
        "port": Rule("port to listen on; 0 for a free one", 0, 65535),
        "root_path": Rule(
            "path that a proxy has the service under, such as /audiotag", check=rules.root_path
        ),
        "workers": Rule("processes, each with models of its own; 0 for one a core", 0, 256),
    },
    "models": {
        "models": Rule(
            "bundles, runs, or names of what comes with audiotag; the first is the default one",
            least=1,
            check=rules.name,
        ),
        "embedder": Rule(
            "auto takes the one that a model is made for, and VGGish before mini",
            choices=("auto", "vggish", "mini"),
        ),
        "precision": Rule(
            "precision of VGGish; float32 if not set",
            choices=("float32", "int8"),
            kind="text",
            optional=True,
        ),
        "device": Rule("auto takes a GPU if onnxruntime has one", choices=("auto", "cpu", "gpu")),
        "reload_seconds": Rule(
            "seconds between looks for changed bundles; 0 for none but on SIGHUP",
            0,
            _LONGEST_SECONDS,
        ),
    },
    "limits of a request": {
        "max_upload_bytes": Rule("size of its body", 1, kind="size"),
        "max_batch_files": Rule("sounds in one POST /classify/batch", 1, 10_000),
        "max_audio_seconds": Rule("length of a sound", 0.001),
        "max_channels": Rule("channels of a sound", 1),
        "max_sample_rate_hz": Rule(
            "sample rate of a sound", MIN_SOURCE_RATE_HZ, MAX_SOURCE_RATE_HZ
        ),
        "max_decoded_bytes": Rule(
            "size of a sound when decoded, 4 bytes a sample of each channel", 1, kind="size"
        ),
    },
    "work at once": {
        "threads": Rule("sounds at once in each process; 0 for one a core", 0, 1024),
        "queue_size": Rule("requests that may wait for a thread", 1),
        "max_uploads": Rule("bodies that may be on their way", 1),
        "batch_window_ms": Rule(
            "milliseconds that patches wait for those of other requests; 0 for no common batches",
            0,
            1000,
        ),
        "full_batch_patches": Rule(
            "patches (0.96 s of sound) of a batch that waits for no more", 1, 4096
        ),
    },
    "time limits": {
        "upload_timeout_seconds": Rule(
            "seconds that a whole body may take to arrive", 0.001, _LONGEST_SECONDS
        ),
        "upload_idle_seconds": Rule(
            "seconds without a byte of a body, or for the head before it", 0.001, _LONGEST_SECONDS
        ),
        "request_timeout_seconds": Rule(
            "seconds from the whole body to the answer", 0.001, _LONGEST_SECONDS
        ),
        "shutdown_seconds": Rule(
            "seconds for requests to end when the service is asked to", 0, _LONGEST_SECONDS
        ),
    },
    "streams": {
        "max_streams": Rule("streams open at once in each process; 0 for none at all", 0),
        "stream_idle_seconds": Rule(
            "seconds without a message of the client", 0.001, _LONGEST_SECONDS
        ),
    },
    "access": {
        "api_keys": Rule(
            "keys, one of which a request must have; if there are none, anybody may ask",
            check=rules.key,
            secret=True,
        ),
        "api_keys_file": Rule(
            "more keys, one a line; # begins a comment", kind="path", optional=True
        ),
        "rate_limit_per_minute": Rule(
            "requests of a key, or of an address without one; 0 for any number", 0
        ),
        "max_requests_per_client": Rule(
            "requests at once of one key or address; 0 for any number", 0
        ),
        "max_streams_per_client": Rule("open streams of one key or address; 0 for any number", 0),
        "cors_origins": Rule(
            "other web sites whose pages may ask, such as https://example.org; * for all",
            check=rules.origin,
        ),
        "trusted_proxies": Rule(
            "addresses or networks whose X-Forwarded-... headers are believed",
            check=rules.network,
        ),
    },
    "system": {
        "temporary_directory": Rule(
            "where uploads are kept while they are needed; the system's if not set",
            check=rules.writable_directory,
            kind="path",
            optional=True,
        ),
        "log_format": Rule(
            "auto is text on a terminal, else json", choices=("auto", "text", "json")
        ),
        "log_level": Rule(
            "the least that is logged", choices=("debug", "info", "warning", "error")
        ),
    },
}

_KINDS: dict[type, Kind] = {int: "whole", float: "number", str: "text", tuple: "list"}


def _settings() -> Mapping[str, Setting]:
    defaults = {each.name: each.default for each in dataclasses.fields(ServiceConfig)}
    settings = {}
    for group, table in _TABLE.items():
        for name, rule in table.items():
            kind = rule.kind or _KINDS[type(defaults[name])]
            settings[name] = Setting(name, kind, defaults[name], group, rule)
    return MappingProxyType(settings)


SETTINGS: Mapping[str, Setting] = _settings()
