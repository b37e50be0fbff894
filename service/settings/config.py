"""The settings of the service: one class with their types, limits, defaults and descriptions."""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vggish.common.choices import Device, EmbedderName, Precision
from vggish.errors import OptionError
from vggish.params import MAX_SOURCE_RATE_HZ, MIN_SOURCE_RATE_HZ

# --- types; a rule completes the sentence "SETTING must ..." -----------------------------------


def _rule(holds: Callable[[Any], object], text: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(f"must {text}")
        return value

    return AfterValidator(check)


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",")) if value else ()
    return tuple(value) if isinstance(value, list) else value


def _size(value: Any) -> Any:
    # ByteSize alone would read "1,5GB" as one byte, and accept 1.5 and true.
    pattern = r"\s*\d+(\.\d+)?\s*([kmgt]?i?b)?\s*"
    if isinstance(value, (bool, float)) or not re.fullmatch(pattern, str(value).lower()):
        raise ValueError('must be a number of bytes or a size such as "256MiB"')
    return value


def _path(value: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise ValueError("must be a path")
    return Path(value)


def _is_network(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_network(text))
    return False


def _is_key(key: SecretStr) -> bool:
    return re.fullmatch(r"[!-~]+", key.get_secret_value()) is not None


def keys_in(path: Path) -> tuple[str, ...]:
    """Read a file of API keys: one per line; # starts a comment. Raises ValueError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(f"must be a readable file: {reason}") from error
    keys = [key for line in lines if (key := line.partition("#")[0].strip())]
    if not keys:
        raise ValueError("must contain a key; without one, everybody would have access")
    if not all(_is_key(SecretStr(key)) for key in keys):
        raise ValueError(f"must {_KEY_RULE}")
    return tuple(keys)


_KEY_RULE = "contain keys of printable ASCII characters without spaces"
_LIST, _UNIQUE = BeforeValidator(_split), AfterValidator(lambda items: tuple(dict.fromkeys(items)))
_OPTIONAL = BeforeValidator(lambda value: value or None)  # TOML has no null; "" stands for it

_HOST_RULE = _rule(
    re.compile(r"[^/\[\]\s]+").fullmatch,
    "be an address or a host name without a port, such as 127.0.0.1, ::1, or 0.0.0.0 for all "
    "addresses of this machine",
)
_ROOT_PATH_RULE = _rule(
    re.compile(r"((/[\w.~-]+)+)?", re.ASCII).fullmatch,
    "be empty, or start with / and not end with it, such as /audiotag",
)
_ORIGIN_RULE = _rule(
    re.compile(r"\*|https?://[^/?#\sA-Z]+").fullmatch,
    "contain origins such as https://example.org, in lower case and without a path, or * for all",
)
_DIRECTORY_RULE = _rule(
    lambda path: path.is_dir() and os.access(path, os.W_OK | os.X_OK), "be a writable directory"
)
Name: TypeAlias = Annotated[str, Field(min_length=1)]
Key: TypeAlias = Annotated[SecretStr, _rule(_is_key, _KEY_RULE)]
Origin: TypeAlias = Annotated[str, _ORIGIN_RULE]
Network: TypeAlias = Annotated[
    str, _rule(_is_network, "contain addresses or networks such as 10.0.0.0/8")
]
KeysFile: TypeAlias = Annotated[Path, BeforeValidator(_path), _rule(keys_in, "contain a key")]
Directory: TypeAlias = Annotated[Path, BeforeValidator(_path), _DIRECTORY_RULE]
Size: TypeAlias = Annotated[ByteSize, BeforeValidator(_size), Field(ge=1)]
SampleRate: TypeAlias = Annotated[int, Field(ge=MIN_SOURCE_RATE_HZ, le=MAX_SOURCE_RATE_HZ)]
# A wait longer than 1e6 s is a mistake, and too long for some clocks.
Seconds: TypeAlias = Annotated[float, Field(ge=0.001, le=1e6)]
SecondsOrZero: TypeAlias = Annotated[float, Field(ge=0, le=1e6)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
CountOrZero: TypeAlias = Annotated[int, Field(ge=0)]


class ServiceConfig(BaseSettings):
    """All settings of the service, validated. Immutable; its `repr` hides the API keys.

    Values come from the arguments alone; `service.settings.sources.load_settings` reads flags,
    environment variables and the settings file. Lists are accepted for tuples, text for paths.

    Raises:
        OptionError: a value is invalid, or `api_keys_file` contains no keys.
    """

    model_config = SettingsConfigDict(
        env_prefix="AUDIOTAG_",
        env_ignore_empty=True,
        enable_decoding=False,  # lists are "a,b", not JSON
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    host: Annotated[str, _HOST_RULE] = "127.0.0.1"
    """address to listen on; 0.0.0.0 or :: for all addresses of this machine"""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """port to listen on; 0 for a free one"""
    root_path: Annotated[str, _ROOT_PATH_RULE] = ""
    """path under which a proxy serves audiotag, such as /audiotag"""
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """number of processes, each with its own models; 0 for one per core"""

    models: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1), _LIST, _UNIQUE
    ] = ("audioset",)
    """bundles, training runs or names of built-in models; the first is the default model"""
    embedder: EmbedderName = "auto"
    """auto uses the embedder a model was trained on, and prefers VGGish to mini"""
    precision: Annotated[Precision | None, _OPTIONAL] = None
    """precision of VGGish; float32 if not set"""
    device: Device = "auto"
    """auto uses a GPU if ONNX Runtime supports one"""
    reload_seconds: SecondsOrZero = 5.0
    """seconds between checks for changed bundles; 0 to reload on SIGHUP only"""

    max_upload_bytes: Size = ByteSize(256 << 20)
    """maximum size of the request body"""
    max_batch_files: Annotated[int, Field(ge=1, le=10_000)] = 16
    """maximum number of clips in one POST /classify/batch"""
    max_audio_seconds: Annotated[float, Field(ge=0.001)] = 3600.0
    """maximum duration of a clip in seconds"""
    max_channels: Count = 32
    """maximum number of channels of a clip"""
    max_sample_rate_hz: SampleRate = MAX_SOURCE_RATE_HZ
    """maximum sample rate of a clip in Hz"""
    max_decoded_bytes: Size = ByteSize(4 << 30)
    """maximum size of a decoded clip, at 4 bytes per sample and channel"""

    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """clips processed at once in each process; 0 for one per core"""
    queue_size: Count = 64
    """maximum number of requests waiting for a thread"""
    max_uploads: Count = 128
    """maximum number of request bodies received at once"""
    batch_window_ms: Annotated[float, Field(ge=0, le=1000)] = 2.0
    """milliseconds that patches wait for those of other requests; 0 for no shared batches"""
    full_batch_patches: Annotated[int, Field(ge=1, le=4096)] = 8
    """number of patches (0.96 s of audio each) at which a shared batch runs without waiting"""

    upload_timeout_seconds: Seconds = 60.0
    """seconds allowed for receiving a whole request body"""
    upload_idle_seconds: Seconds = 10.0
    """seconds allowed between two parts of a request body"""
    request_timeout_seconds: Seconds = 60.0
    """seconds allowed from the end of the request body to the response"""
    shutdown_seconds: SecondsOrZero = 30.0
    """seconds allowed for running requests to finish when the service stops"""

    max_streams: CountOrZero = 16
    """maximum number of open streams in each process; 0 disables streams"""
    stream_idle_seconds: Seconds = 60.0
    """seconds allowed between two messages of a stream's client"""

    api_keys: Annotated[tuple[Key, ...], _LIST, _UNIQUE] = ()
    """API keys, one of which a request must send; without keys, everybody has access"""
    api_keys_file: Annotated[KeysFile | None, _OPTIONAL] = None
    """file with more API keys, one per line; # starts a comment"""
    rate_limit_per_minute: CountOrZero = 0
    """maximum requests per minute for each key, or address without a key; 0 for no limit"""
    max_requests_per_client: CountOrZero = 64
    """maximum number of concurrent requests for each key or address; 0 for no limit"""
    max_streams_per_client: CountOrZero = 8
    """maximum number of open streams for each key or address; 0 for no limit"""
    cors_origins: Annotated[tuple[Origin, ...], _LIST, _UNIQUE] = ()
    """other web sites whose pages may use the service, such as https://example.org; * for all"""
    trusted_proxies: Annotated[tuple[Network, ...], _LIST, _UNIQUE] = ()
    """addresses or networks of proxies whose X-Forwarded-... headers are trusted"""

    temporary_directory: Annotated[Directory | None, _OPTIONAL] = None
    """directory for uploads while they are processed; the system's if not set"""
    log_format: Literal["auto", "text", "json"] = "auto"
    """auto is text on a terminal and JSON elsewhere"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """minimum level of the messages that are logged"""

    _keys: tuple[str, ...] = ()

    def __init__(self, _origins: Mapping[str, str] | None = None, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise OptionError(_explained(error, _origins or {})) from error

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, _: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use the arguments only."""
        return (init_settings,)

    def model_post_init(self, _: Any) -> None:
        """Collect the keys."""
        keys = tuple(key.get_secret_value() for key in self.api_keys)
        keys += keys_in(self.api_keys_file) if self.api_keys_file else ()
        self._keys = tuple(dict.fromkeys(keys))

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        for name, field in type(self).model_fields.items():
            if getattr(self, name) != field.default:
                yield name, getattr(self, name)

    @property
    def keys(self) -> tuple[str, ...]:
        """All API keys, those of `api_keys_file` included; empty if no key is needed."""
        return self._keys


SETTINGS: Mapping[str, FieldInfo] = MappingProxyType(ServiceConfig.model_fields)
SECRET = "api_keys"  # noqa: S105 - a name, not a value
# Headings for the help, the documentation and the settings file: each starts at a setting.
HEADINGS = {
    "host": "address",
    "models": "models",
    "max_upload_bytes": "limits of a request",
    "threads": "concurrency",
    "upload_timeout_seconds": "time limits",
    "max_streams": "streams",
    "api_keys": "access",
    "temporary_directory": "system",
}


def _explained(error: ValidationError, origins: Mapping[str, str]) -> str:
    """Describe the first invalid setting: the rule, the value unless secret, and its origin."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    where = f" ({origins[name]})" if name in origins else ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name.lower().replace("-", "_"), SETTINGS, 1)
        hint = f"did you mean {near[0]!r}?" if near else "audiotag serve --help lists them all"
        return f"unknown setting {name!r}; {hint}{where}"
    rule = re.sub(r"^(Value error, |\w+ should )", "", first["msg"])
    rule = rule if rule.startswith("must ") else f"must {rule}"
    received = first["input"]
    if name == SECRET:
        received = "(hidden)"
    elif not isinstance(received, SecretStr):
        received = repr(str(received) if isinstance(received, Path) else received)
    return f"{name} {rule}. Received: {received}{where}"
