"""Settings of a dataclass: their type, bounds and choices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from vggish.common.bounds import check, setting, settings_of
from vggish.errors import OptionError


@dataclass(frozen=True)
class Example:
    units: int = setting(8, help="number of units", minimum=1, maximum=64)
    rate: float = setting(0.5, help="share to drop", minimum=0, below=1)
    speed: float = setting(1.0, help="speed", above=0)
    backward: bool = setting(False, help="whether to go backward")
    pooling: Literal["max", "mean"] = setting("max", help="pooling over time")
    note: str = "not a setting"

    def __post_init__(self) -> None:
        check(self)


def test_settings_are_listed_in_order_with_their_choices() -> None:
    settings = settings_of(Example)
    assert list(settings) == ["units", "rate", "speed", "backward", "pooling"]
    assert [each.name for each in settings.values()] == list(settings)
    assert settings["pooling"].choices == ("max", "mean")
    assert settings["units"].value_type is int
    assert settings["rate"].help == "share to drop"


def test_defaults_and_values_at_the_bounds_are_accepted() -> None:
    assert Example() == Example(8, 0.5, 1.0, False, "max")
    Example(units=1, rate=0, speed=1e300, pooling="mean")
    Example(units=64, rate=0.999)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"units": 0}, r"^units must be from 1 to 64\. Received: 0$"),
        ({"units": 65}, "units must be from 1 to 64"),
        ({"units": 2.5}, "units must be a whole number. Received: 2.5"),
        ({"units": True}, "units must be a whole number"),
        ({"rate": 1}, "rate must be at least 0 and below 1"),
        ({"rate": math.nan}, "rate must be at least 0 and below 1. Received: nan"),
        ({"rate": "0.5"}, "rate must be a number. Received: '0.5'"),
        ({"speed": 0}, "speed must be more than 0"),
        ({"speed": math.inf}, "speed must be more than 0. Received: inf"),
        ({"backward": 1}, "backward must be true or false"),
        ({"pooling": "min"}, "pooling must be one of max, mean. Received: 'min'"),
    ],
)
def test_invalid_values_are_refused(values: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Example(**values)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("units", "16", 16),
        ("units", 2.0, 2),
        ("rate", "1e-3", 0.001),
        ("backward", "Yes", True),
        ("backward", False, False),
        ("pooling", "mean", "mean"),
    ],
)
def test_text_is_converted_to_the_type_of_the_setting(name: str, text: Any, value: Any) -> None:
    converted = settings_of(Example)[name].convert(text)
    assert (converted, type(converted)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("units", "1.5", "--units must be a whole number, such as 8. Received: '1.5'"),
        ("units", None, "must be a whole number"),
        ("rate", "fast", "must be a number, such as 0.5. Received: 'fast'"),
        ("backward", "maybe", "must be true or false, such as False"),
    ],
)
def test_unconvertible_text_is_refused(name: str, text: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        settings_of(Example)[name].convert(text, f"--{name}")


def test_errors_name_the_owner_of_the_settings() -> None:
    value = object.__new__(Example)
    object.__setattr__(value, "units", 100)
    with pytest.raises(OptionError, match=r"^units of the network must be"):
        check(value, "the network")
