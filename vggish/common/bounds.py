"""Settings with help, choices and bounds: the fields of a frozen dataclass.

    @dataclass(frozen=True)
    class Network:
        units: int = setting(512, help="units of each layer", minimum=1)

        def __post_init__(self) -> None:
            check(self)

`settings_of(Network)` lists them, for the command line and the documentation.
"""

# pydantic does this too, but importing it takes 0.2 s, which `audiotag train --help` would pay.

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vggish.errors import OptionError

_METADATA_KEY = "audiotag.setting"
_DESCRIPTIONS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Setting:
    """One setting of a dataclass. Infinite numbers are never allowed."""

    default: Any  # its type, bool, int, float or str, is the type of the setting
    help: str  # a phrase for the command line, without the default
    choices: tuple[str, ...] = ()  # allowed values of a str; () allows any
    minimum: float = -inf
    maximum: float = inf
    above: float = -inf  # exclusive lower bound
    below: float = inf  # exclusive upper bound
    name: str = ""  # of the field

    @property
    def value_type(self) -> type:
        """bool, int, float or str."""
        return type(self.default)

    def convert(self, value: object, label: str = "") -> Any:
        """Convert text, or a value of a similar type, to the type of this setting.

        Errors call the setting `label`, by default its name.
        """
        kind = self.value_type
        try:
            if kind is bool:
                return _BOOLEANS[str(value).lower()]
            if kind is int:
                number = float(str(value))
                if number != int(number):
                    raise ValueError
                return int(number)
            return kind(str(value))
        except (KeyError, ValueError, OverflowError):
            rule = f"{_DESCRIPTIONS[kind]}, such as {self.default}"
            raise self._error(label, value, rule) from None

    def check(self, value: object, label: str = "") -> None:
        """Check a value's type, choice and bounds."""
        if self.choices and value not in self.choices:
            raise self._error(label, value, f"one of {', '.join(self.choices)}")
        kind = self.value_type
        # A whole number may stand for a float, but True is not a number.
        allowed = (int, float) if kind is float else kind
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            raise self._error(label, value, _DESCRIPTIONS[kind])
        if not isinstance(value, (int, float)) or kind is bool:
            return
        # NaN fails every comparison.
        if not (self.minimum <= value <= self.maximum and self.above < value < self.below):
            raise self._error(label, value, self._range or "finite")

    @property
    def _range(self) -> str:
        if isfinite(self.minimum) and isfinite(self.maximum):
            return f"from {self.minimum:.12g} to {self.maximum:.12g}"
        bounds = {"at least": self.minimum, "more than": self.above}
        bounds |= {"at most": self.maximum, "below": self.below}
        return " and ".join(f"{w} {bound:.12g}" for w, bound in bounds.items() if isfinite(bound))

    def _error(self, label: str, value: object, rule: str) -> OptionError:
        return OptionError(f"{label or self.name} must be {rule}. Received: {value!r}")


def setting(default: Any, *, choices: Sequence[str] = (), **others: Any) -> Any:
    """Make a dataclass field that is a `Setting`; see there for the arguments.

    The choices of a field that is annotated with a `Literal` are those of the annotation.
    """
    described = Setting(default, choices=tuple(choices), **others)
    return dataclasses.field(default=default, metadata={_METADATA_KEY: described})


def settings_of(dataclass_type: type) -> dict[str, Setting]:
    """The settings of a dataclass by name, in the order of the fields."""
    hints = get_type_hints(dataclass_type)
    found = {}
    for field in dataclasses.fields(dataclass_type):
        if _METADATA_KEY in field.metadata:
            described = dataclasses.replace(field.metadata[_METADATA_KEY], name=field.name)
            if get_origin(hints[field.name]) is Literal:
                described = dataclasses.replace(described, choices=get_args(hints[field.name]))
            found[field.name] = described
    return found


def check(settings: Any, of: str = "") -> None:
    """Check every setting of a dataclass instance.

    Errors add `of` to a setting's name, such as "the head gru".
    """
    for name, described in settings_of(type(settings)).items():
        described.check(getattr(settings, name), f"{name} of {of}" if of else "")
