"""Results as JSON documents: a dataclass becomes an object whose keys are its fields' names.

The command line, the HTTP service and its client all write and read results through here, so
each result is described once, by its dataclass.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from vggish.errors import OptionError

if typing.TYPE_CHECKING:
    from typing_extensions import Self

# Metadata of a field that is left out of the document.
NOT_IN_JSON = types.MappingProxyType({"json": False})


class JsonDocument:
    """Base class of dataclasses that have a JSON form.

    Fields may be numbers, strings, other such dataclasses, `tuple[X, ...]`, `Mapping[str, X]`, or
    one of these `| None`.
    """

    def as_json(self) -> dict[str, Any]:
        """Convert to the dicts, lists, numbers and strings of the JSON document."""
        cls: Any = type(self)
        return {field.name: _to_json(getattr(self, field.name)) for field in _fields(cls)}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read a document that `as_json` made, perhaps in another process.

        Unknown keys are ignored. A key that is absent or null takes the field's default, or None if
        the field is optional. Raises an `OptionError` if a key is missing, or a value has another
        type.
        """
        try:
            found: Self = _reader(typing.cast("Any", cls))(document)
            return found
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise OptionError(
                f"not a JSON document of {cls.__name__} ({type(error).__name__}: {error}). "
                f"Received: {repr(document)[:200]}"
            ) from error


class _Field(typing.NamedTuple):
    name: str
    kind: Any
    has_default: bool

    @property
    def is_optional(self) -> bool:
        return type(None) in typing.get_args(self.kind)


@functools.cache
def _fields(cls: Hashable) -> tuple[_Field, ...]:
    """The fields of a dataclass that are in the document, in order."""
    kinds = typing.get_type_hints(cls)
    missing = dataclasses.MISSING
    return tuple(
        _Field(f.name, kinds[f.name], not (f.default is missing and f.default_factory is missing))
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        if f.metadata.get("json", True)
    )


def _to_json(value: Any) -> Any:
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, JsonDocument):
        return value.as_json()
    return dict(value) if isinstance(value, Mapping) else value


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Make the function that converts a JSON value to a type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # X | None
        read_value = _reader(arguments[0])
        return lambda value: None if value is None else read_value(value)
    if origin is tuple:
        read_item = _reader(arguments[0])
        return lambda value: tuple(map(read_item, value))
    if origin is collections.abc.Mapping:
        read_item = _reader(arguments[1])
        return lambda value: {str(key): read_item(item) for key, item in value.items()}
    if not hasattr(kind, "__dataclass_fields__"):
        return typing.cast("Callable[[Any], Any]", kind)
    fields = [(f.name, _reader(f.kind), f.has_default, f.is_optional) for f in _fields(kind)]

    def read(value: Any) -> Any:
        values = {}
        for name, read_field, has_default, is_optional in fields:
            if value.get(name) is not None:
                values[name] = read_field(value[name])
            elif not has_default:
                values[name] = None if is_optional else read_field(value[name])
        return kind(**values)

    return read
