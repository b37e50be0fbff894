"""The settings of the service: their types and limits, their sources, and how they are shown."""

from __future__ import annotations

import argparse
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from service.settings.config import HEADINGS, SECRET, SETTINGS, ServiceConfig, keys_in
from service.settings.flags import add_flags, as_markdown, flags_of
from service.settings.sources import flag, variable
from tests.support.paths import ROOT
from tests.support.settings import load_settings
from vggish.errors import OptionError

DOCUMENTATION = ROOT / "docs" / "service.md"

# A value other than the default for each setting: its text in a flag or variable, and its value.
OTHERS: dict[str, tuple[str, Any]] = {
    "host": ("::1", "::1"),
    "port": ("0", 0),
    "root_path": ("/audio/tags", "/audio/tags"),
    "workers": ("3", 3),
    "models": ("mine, audioset-gru", ("mine", "audioset-gru")),
    "embedder": ("mini", "mini"),
    "precision": ("int8", "int8"),
    "device": ("cpu", "cpu"),
    "reload_seconds": ("0", 0.0),
    "max_upload_bytes": ("1.5 KiB", 1536),
    "max_batch_files": ("3", 3),
    "max_audio_seconds": ("0.5", 0.5),
    "max_channels": ("2", 2),
    "max_sample_rate_hz": ("48000", 48_000),
    "max_decoded_bytes": ("3GB", 3_000_000_000),
    "threads": ("5", 5),
    "queue_size": ("7", 7),
    "max_uploads": ("9", 9),
    "batch_window_ms": ("0.25", 0.25),
    "full_batch_patches": ("32", 32),
    "upload_timeout_seconds": ("1e3", 1000.0),
    "upload_idle_seconds": ("2", 2.0),
    "request_timeout_seconds": ("3", 3.0),
    "shutdown_seconds": ("0", 0.0),
    "max_streams": ("0", 0),
    "stream_idle_seconds": ("1.5", 1.5),
    "api_keys": (
        "first-key,second-key",
        (SecretStr("first-key"), SecretStr("second-key")),
    ),
    "api_keys_file": ("", None),  # filled in by the tests
    "rate_limit_per_minute": ("100", 100),
    "max_requests_per_client": ("5", 5),
    "max_streams_per_client": ("0", 0),
    "cors_origins": ("https://a.example,http://b:8080", ("https://a.example", "http://b:8080")),
    "trusted_proxies": ("10.0.0.0/8,::1", ("10.0.0.0/8", "::1")),
    "temporary_directory": ("", None),  # filled in by the tests
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
}


@pytest.fixture
def others(tmp_path: Path) -> dict[str, tuple[str, Any]]:
    keys = tmp_path / "keys.txt"
    keys.write_text("# of the newsroom\nfile-key-1  # Ada\n\n  file-key-2\n")
    paths: dict[str, tuple[str, Any]] = {
        "api_keys_file": (str(keys), keys),
        "temporary_directory": (str(tmp_path), tmp_path),
    }
    return {**OTHERS, **paths}


def test_every_field_is_described_and_has_a_test_value(others: Any) -> None:
    assert sorted(SETTINGS) == sorted(others)
    assert all(field.description for field in SETTINGS.values())
    assert next(iter(SETTINGS)) == next(iter(HEADINGS))
    assert set(HEADINGS) <= set(SETTINGS)
    for name, (_, value) in others.items():
        assert value != getattr(ServiceConfig(), name)


def test_defaults_are_valid_and_apply_without_any_source() -> None:
    settings = load_settings({}, environ={})
    assert settings.config == ServiceConfig()
    assert set(settings.origins.values()) == {"default"}
    assert settings.notes == ()


@pytest.mark.parametrize("name", OTHERS)
def test_each_setting_comes_from_flag_variable_or_file_in_this_order(
    name: str, others: dict[str, tuple[str, Any]], tmp_path: Path
) -> None:
    text, value = others[name]
    by_flag = load_settings({name: text}, environ={})
    by_variable = load_settings({}, environ={variable(name): text})
    file = tmp_path / "settings.toml"
    file.write_text(by_flag.describe())
    if name == SECRET:
        file.write_text(f'{name} = ["first-key", "second-key"]\n')
    by_file = load_settings({}, str(file), environ={})
    by_named_file = load_settings({}, environ={"AUDIOTAG_CONFIG": str(file)})
    for settings, where in (
        (by_flag, f"flag {flag(name)}"),
        (by_variable, f"environment variable {variable(name)}"),
        (by_file, f"file {file}"),
        (by_named_file, f"file {file}"),
    ):
        assert getattr(settings.config, name) == value
        assert settings.origins[name] == where
    default = SETTINGS[name].default
    assert by_file.config == ServiceConfig(**{name: value})
    if default not in (None, (), ""):
        plain = ",".join(default) if isinstance(default, tuple) else str(default)
        over_file = load_settings({}, str(file), environ={variable(name): plain})
        over_all = load_settings({name: plain}, str(file), environ={variable(name): text})
        assert over_file.config == over_all.config == ServiceConfig()
        assert over_file.origins[name] == f"environment variable {variable(name)}"
        assert over_all.origins[name] == f"flag {flag(name)}"


def test_a_described_configuration_can_be_loaded_again(
    others: dict[str, tuple[str, Any]], tmp_path: Path
) -> None:
    given = {name: text for name, (text, _) in others.items() if name != "api_keys"}
    described = load_settings(given, environ={}).describe()
    file = tmp_path / 'a "name"\n.toml'
    file.write_text(described)
    again = load_settings({}, str(file), environ={})
    assert again.config == load_settings(given, environ={}).config
    assert again.config.keys == ("file-key-1", "file-key-2")
    lines = [line for line in described.splitlines() if " = " in line]
    assert len(lines) == len(SETTINGS)
    for line in lines:
        name = line.split(" = ")[0]
        assert line.endswith(f"  # flag {flag(name)}" if name in given else "  # default")
    assert load_settings({}, str(file), environ={}).describe().count("\n") == described.count("\n")


def test_the_flag_for_the_file_overrides_the_variable(tmp_path: Path) -> None:
    for name, port in (("one", 1), ("two", 2)):
        (tmp_path / name).write_text(f"port = {port}")
    environ = {"AUDIOTAG_CONFIG": str(tmp_path / "one")}
    assert load_settings({}, environ=environ).config.port == 1
    assert load_settings({}, str(tmp_path / "two"), environ=environ).config.port == 2
    assert load_settings({}, environ={"AUDIOTAG_CONFIG": ""}).config.port == 8000


def test_keys_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("secret-3")
    (tmp_path / "s.toml").write_text('api_keys = ["secret-1", "secret-2"]')
    for settings in (
        load_settings({}, environ={"AUDIOTAG_API_KEYS": "secret-1,secret-2"}),
        load_settings({}, str(tmp_path / "s.toml"), environ={}),
        load_settings({"api_keys_file": str(tmp_path / "keys")}, environ={}),
    ):
        config = settings.config
        assert config.keys
        for shown in (repr(config), str(config), repr(settings), settings.describe()):
            assert "secret-" not in shown
        kept = pickle.loads(pickle.dumps(config))
        assert (kept, kept.keys) == (config, config.keys)
        assert "secret-" not in repr(kept)
    hidden = load_settings({}, environ={"AUDIOTAG_API_KEYS": "secret-1"}).describe()
    assert "\n# api_keys: hidden" in hidden
    for wrong in ("secret-1,secret 2", "secret-1,,secret-2", "secret-\u00e9", ","):
        with pytest.raises(OptionError, match=r"^api_keys .*hidden.*AUDIOTAG_API_KEYS") as caught:
            load_settings({}, environ={"AUDIOTAG_API_KEYS": wrong})
        assert "secret-" not in str(caught.value)
    with pytest.raises(OptionError, match=r"^api_keys must be a valid string") as caught:
        ServiceConfig(api_keys=("secret-1", 3))  # type: ignore[arg-type]
    assert "secret-" not in str(caught.value)


def test_a_file_of_keys_has_one_per_line_and_adds_to_the_others(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# nobody\nabc#de\n  f-g  \nabc\n")
    assert keys_in(path) == ("abc", "f-g", "abc")
    assert ServiceConfig(api_keys_file=path, api_keys=("k",)).keys == ("k", "abc", "f-g")
    assert ServiceConfig(api_keys=("k", "k")).keys == ("k",)
    assert ServiceConfig().keys == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must be a readable file: No such file"),
        (b"# none\n\n", "must contain a key"),
        (b"sec ret\n", "printable ASCII"),
        (b"\xff\xfe", "it is not UTF-8 text"),
    ],
)
def test_a_file_without_valid_keys_is_an_error_and_does_not_disable_authentication(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match=message) as caught:
        load_settings({}, environ={"AUDIOTAG_API_KEYS_FILE": str(path)})
    assert str(caught.value).endswith("(environment variable AUDIOTAG_API_KEYS_FILE)")
    assert str(path) in str(caught.value)
    assert "sec ret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("port", "80a", "a valid integer"),
        ("port", "65536", "less than or equal to 65535"),
        ("port", "1.0", "a valid integer"),
        ("workers", "-1", "greater than or equal to 0"),
        ("threads", "1025", "less than or equal to 1024"),
        ("host", "http://localhost", "an address or a host name without a port"),
        ("host", "[::1]", "an address or a host name without a port"),
        ("host", "", "an address or a host name without a port"),
        ("models", "a,,b", "at least 1 character"),
        ("models", "", "at least 1 item"),
        ("embedder", "yamnet", "'auto', 'vggish' or 'mini'"),
        ("precision", "int4", "'float32' or 'int8'"),
        ("device", "tpu", "'auto', 'cpu' or 'gpu'"),
        ("max_upload_bytes", "12 parsecs", 'a size such as "256MiB"'),
        ("max_upload_bytes", "0", "greater than or equal to 1"),
        ("max_upload_bytes", "1,5GB", 'a size such as "256MiB"'),
        ("max_upload_bytes", "1.5.3GB", 'a size such as "256MiB"'),
        ("max_upload_bytes", "256MiB of RAM", 'a size such as "256MiB"'),
        ("max_decoded_bytes", "-5", 'a size such as "256MiB"'),
        ("max_audio_seconds", "0", "greater than or equal to 0.001"),
        ("max_audio_seconds", "nan", "a finite number"),
        ("max_audio_seconds", "inf", "a finite number"),
        ("max_sample_rate_hz", "1000001", "less than or equal to 1000000"),
        ("max_sample_rate_hz", "0", "greater than or equal to 1"),
        ("batch_window_ms", "1001", "less than or equal to 1000"),
        ("shutdown_seconds", "-0.1", "greater than or equal to 0"),
        ("shutdown_seconds", "1e7", "less than or equal to 1000000"),
        ("rate_limit_per_minute", "often", "a valid integer"),
        ("cors_origins", "example.org", "origins such as https://example.org"),
        ("cors_origins", "https://example.org/", "origins such as https://example.org"),
        ("cors_origins", "https://Example.org", "in lower case"),
        ("cors_origins", "https://", "origins such as"),
        ("trusted_proxies", "proxy", "addresses or networks"),
        ("trusted_proxies", "*", "addresses or networks"),
        ("trusted_proxies", "10.0.0.1/8", "addresses or networks"),
        ("root_path", "audiotag", "start with /"),
        ("root_path", "/audiotag/", "not end with it"),
        ("root_path", "/a//b", "such as /audiotag"),
        ("temporary_directory", "/nowhere/at/all", "a writable directory"),
        ("log_format", "xml", "'auto', 'text' or 'json'"),
        ("log_level", "loud", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_an_invalid_value_is_reported_with_its_rule_and_origin(
    name: str, text: str, rule: str, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=f"^{name} must .*Received: ") as caught:
        load_settings({name: text}, environ={})
    assert rule in str(caught.value)
    assert str(caught.value).endswith(f"(flag {flag(name)})")
    if text:
        with pytest.raises(OptionError, match=rule.replace("*", r"\*")) as caught:
            load_settings({}, environ={variable(name): text})
        assert str(caught.value).endswith(f"(environment variable {variable(name)})")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("port = true", "port must be a valid integer"),
        ('port = "8000"', "port must be a valid integer"),
        ("port = 8000.0", "port must be a valid integer"),
        ("max_upload_bytes = false", "max_upload_bytes must be a number of bytes"),
        ("max_upload_bytes = 1.5", "max_upload_bytes must be a number of bytes"),
        ("host = 127", "host must be a valid string"),
        ("api_keys_file = 3", "api_keys_file must be a path"),
        ("models = [1]", "models must be a valid string"),
        ("models = []", "models must have at least 1 item"),
        ("max_audio_seconds = nan", "max_audio_seconds must be a finite number"),
    ],
)
def test_values_of_the_wrong_type_in_a_file_are_reported(
    line: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.toml"
    file.write_text(line)
    with pytest.raises(OptionError, match=f"^{message}") as caught:
        load_settings({}, str(file), environ={})
    assert str(caught.value).endswith(f"(file {file})")


def test_a_file_may_use_the_types_of_toml(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        'models = "mine"\nmax_upload_bytes = 5\nmax_decoded_bytes = "2MiB"\nprecision = ""\n'
        'max_audio_seconds = 5\nroot_path = ""\n'
    )
    config = load_settings({}, str(file), environ={}).config
    assert config == ServiceConfig(
        models=("mine",), max_upload_bytes=5, max_decoded_bytes=2 << 20, max_audio_seconds=5
    )
    assert isinstance(config.max_audio_seconds, float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"prot = 1", "unknown setting 'prot'; did you mean 'port'\\?"),
        (b"max-uploads = 1", "did you mean 'max_uploads'"),
        (b"[serve]\nport = 1", "unknown setting 'serve'; "),
        (b"zzz = 1", "--help lists them all"),
        (b"port = = 1", "is not TOML"),
        (b"\xff", "is not TOML"),
        (None, "cannot read the settings file .*No such file"),
    ],
)
def test_an_unreadable_file_is_reported(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OptionError, match=message) as caught:
        load_settings({}, str(file), environ={})
    assert str(file) in str(caught.value)


def test_unrelated_variables_are_ignored_and_misspelt_ones_are_noted() -> None:
    of_others = {
        "AUDIOTAG_HOME": "/somewhere",
        "AUDIOTAG_FFMPEG": "/usr/bin/ffmpeg",
        "AUDIOTAG_SERVICE_HOST": "10.0.0.7",
        "AUDIOTAG_SERVICE_PORT_HTTP": "8000",
        "AUDIOTAG_PORT_8000_TCP_ADDR": "10.0.0.7",
        "AUDIOTAG_PORT": "tcp://10.0.0.7:8000",
        "AUDIOTAG_HOST": "",
        "PORT": "1",
    }
    settings = load_settings({}, environ=of_others)
    assert (settings.config, settings.notes) == (ServiceConfig(), ())
    (note,) = load_settings({}, environ={"AUDIOTAG_MAX_UPLOAD": "3"}).notes
    assert "AUDIOTAG_MAX_UPLOAD;" in note
    assert "did you mean AUDIOTAG_MAX_UPLOADS?" in note
    # This variable is read by the client.
    (note,) = load_settings({}, environ={"AUDIOTAG_API_KEY": "a-secret"}).notes
    assert "the service ignores" in note
    assert "AUDIOTAG_API_KEYS?" in note
    assert "secret" not in note


@pytest.mark.parametrize("given", [["--api-keys", "a-secret"], ["--api-key=a-secret"]])
def test_a_key_given_as_a_flag_is_refused_and_not_shown(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(given)
    err = capsys.readouterr().err
    assert "AUDIOTAG_API_KEYS" in err
    assert "secret" not in err
    assert "--api-key " not in parser.format_help()


def test_flags_are_generated_from_the_fields(others: dict[str, tuple[str, Any]]) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    named = parser.format_help()
    arguments = []
    for name, (text, _) in others.items():
        if name == SECRET:
            assert f"{flag(name)} " not in named
            assert variable(name) in named
        else:
            assert f"{flag(name)} " in named
            arguments.append(f"{flag(name)}={text}")
    given = flags_of(parser.parse_args(arguments))
    assert given == {name: text for name, (text, _) in others.items() if name != "api_keys"}
    assert flags_of(parser.parse_args([])) == {}
    twice = flags_of(parser.parse_args(["--models", "a,b", "--models", "c"]))
    assert load_settings(twice, environ={}).config.models == ("a", "b", "c")


def test_help_and_documentation_name_every_setting(
    command_line: Callable[..., tuple[int, str, str]],
) -> None:
    status, out, _ = command_line("serve", "--help")
    assert status == 0
    for name in SETTINGS:
        assert (variable(name) if name == SECRET else f"{flag(name)} ") in out
    documented = DOCUMENTATION.read_text("utf-8")
    assert as_markdown() in documented, f"the table should be:\n{as_markdown()}"


def test_show_config_prints_each_value_with_its_origin(
    command_line: Callable[..., tuple[int, str, str]],
    in_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("one.toml").write_text('workers = 2\napi_keys = ["secret-1"]\n')
    monkeypatch.setenv("AUDIOTAG_PORT", "9000")
    monkeypatch.setenv("AUDIOTAG_MAX_UPLOAD", "9000")
    status, out, err = command_line("serve", "--config", "one.toml", "--show-config", "--host=::1")
    assert status == 0
    assert "did you mean AUDIOTAG_MAX_UPLOADS?" in err
    assert "secret" not in out + err
    lines = {line.split()[0]: line.split("  # ")[1] for line in out.splitlines() if " = " in line}
    assert lines["host"] == "flag --host"
    assert lines["port"] == "environment variable AUDIOTAG_PORT"
    assert lines["workers"] == "file one.toml"
    assert lines["threads"] == "default"
    monkeypatch.delenv("AUDIOTAG_PORT")
    Path("two.toml").write_text(out)
    status, again, _ = command_line("serve", "--config", "two.toml", "--show-config")
    assert status == 0
    assert values_of(again) == {**values_of(out), "api_keys": "[]"}


def values_of(described: str) -> dict[str, str]:
    told = (line.split("  # ")[0].split(" = ") for line in described.splitlines() if " = " in line)
    return {name: value.strip() for name, value in told}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "less than or equal to 65535. Received: 99999 (flag --port)"),
        (["--config", "none.toml"], "cannot read the settings file none.toml: No such file"),
    ],
)
def test_an_invalid_setting_ends_the_command_with_a_message(
    arguments: list[str],
    message: str,
    command_line: Callable[..., tuple[int, str, str]],
    in_directory: Path,
) -> None:
    status, out, err = command_line("serve", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_values_given_in_python_are_validated_too() -> None:
    config = ServiceConfig(models=["a", "a"], batch_window_ms=3, api_keys_file=None)  # type: ignore[arg-type]
    assert config.models == ("a",)
    assert config.batch_window_ms == 3.0
    assert ServiceConfig(temporary_directory="/tmp").temporary_directory == Path("/tmp")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"Received: inf$"):
        ServiceConfig(stream_idle_seconds=math.inf)
    with pytest.raises(ValidationError, match="frozen"):
        config.port = 3  # type: ignore[misc]
    assert repr(ServiceConfig(port=3)) == "ServiceConfig(port=3)"
