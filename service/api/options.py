"""Options of requests: from the query and from the fields of a form, checked, told clearly."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from service.api.schemas import ClassifyOptions, EmbedRequestOptions
from service.problems import Problem

_N_TOLD = 3

_KNOWN = sorted({*ClassifyOptions.model_fields, *EmbedRequestOptions.model_fields})

OptionsT = TypeVar("OptionsT", bound=BaseModel)


def with_fields(options: OptionsT, fields: Sequence[tuple[str, str]]) -> OptionsT:
    """Options of the query, and of the form, whose fields go before.

    Raises:
        Problem: a field cannot be honoured.
    """
    if not fields:
        return options
    kind = type(options)
    values: dict[str, Any] = options.model_dump(exclude_unset=True)
    for name, value in gathered(kind, fields).items():
        values[name] = value
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise invalid(error.errors()) from error


def gathered(kind: type[BaseModel], fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Names and values, those of a list together, else the last one."""
    values: dict[str, Any] = {}
    for name, value in fields:
        known = kind.model_fields.get(name)
        if known is not None and get_origin(known.annotation) is list:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return values


def invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The problem of options that do not fit, from what pydantic says of them."""
    told = [_told(error) for error in errors]
    return Problem("invalid-option", "; ".join(told[:_N_TOLD]), options=_names(errors))


def _told(error: Mapping[str, Any]) -> str:
    name = _name(error)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, _KNOWN, 1)
        # It may be one of another address.
        hint = f"; did you mean {near[0]!r}?" if near and near[0] != name else ""
        return f"there is no option {name!r}{hint}"
    if error["type"] == "missing":
        return f"the option {name!r} is missing"
    message = error["msg"].replace("Input should", "must", 1)
    received = "(hidden)" if name == "api_key" else repr(str(error.get("input"))[:64])
    return f"{name} {message[:1].lower()}{message[1:]}. Received: {received}"


def _names(errors: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(_name(error) for error in errors))


def _name(error: Mapping[str, Any]) -> str:
    """Of the option: what pydantic says of places begins with where it was looked for."""
    place = [part for part in error["loc"] if part not in ("query", "body")]
    return str(place[0])[:64] if place else "the request"
