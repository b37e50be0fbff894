"""Options of requests, from the query and from form fields, and errors about them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError

from service.api.schemas import ClassifyOptions, EmbedRequestOptions
from service.problems import Problem

_KNOWN = sorted({*ClassifyOptions.model_fields, *EmbedRequestOptions.model_fields})
OptionsT = TypeVar("OptionsT", bound=BaseModel)


def with_fields(options: OptionsT, fields: Sequence[tuple[str, str]]) -> OptionsT:
    """Override the options of the query with the fields of a form; raise Problem if invalid."""
    kind = type(options)
    values: dict[str, Any] = {}
    for name, value in fields:
        known = kind.model_fields.get(name)
        if known is not None and get_origin(known.annotation) is list:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    try:
        return kind.model_validate({**options.model_dump(exclude_unset=True), **values})
    except ValidationError as error:
        raise options_problem(error.errors()) from error


def options_problem(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """Make the problem of invalid options from pydantic's errors."""
    message = "; ".join(map(_describe, errors[:3]))
    names = list(dict.fromkeys(map(_name_of, errors)))
    return Problem("invalid-option", message, options=names)


def _describe(error: Mapping[str, Any]) -> str:
    name = _name_of(error)
    if error["type"] == "extra_forbidden":
        similar = difflib.get_close_matches(name, _KNOWN, 1)
        # A similar name may be the same, as an option of another address.
        hint = f"; did you mean {similar[0]!r}?" if similar and similar[0] != name else ""
        return f"there is no option {name!r}{hint}"
    if error["type"] == "missing":
        return f"the option {name!r} is missing"
    message = error["msg"].replace("Input should", "must", 1)
    received = "(hidden)" if name == "api_key" else repr(str(error.get("input"))[:64])
    return f"{name} {message[:1].lower()}{message[1:]}. Received: {received}"


def _name_of(error: Mapping[str, Any]) -> str:
    """Name of the option; pydantic's location may begin with the part of the request."""
    location = [part for part in error["loc"] if part not in ("query", "body")]
    return str(location[0])[:64] if location else "the request"
