"""Write docs/python-api.md from the docstrings of the public packages.

    python -m docs.make_python_api

The packages use one docstring style (Google's) without Markdown in it, so `inspect` and the few
rules below are enough; a documentation generator would add a dependency and a build step.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("python-api.md")
PACKAGES = ("audiotag", "vggish", "classifier", "service")
HEADING = """\
# Python API

Written by `python -m docs.make_python_api` from the docstrings; do not edit by hand.

Import the names below from their package: `audiotag` has what most programs need, the other three
give access to each stage. Importing a package is cheap, because a name is loaded when it is first
used. All packages are typed."""
SECTIONS = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Shape|Source|Example|Examples):")
LISTS = ("Args", "Attributes", "Raises")


class _Annotation:
    """An annotation that `inspect` prints as in the source, without quotes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


_ELLIPSIS = _Annotation("...")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")


def page() -> str:
    """Return the text of the page."""
    documented: dict[int, str] = {}
    blocks = [HEADING]
    for package in PACKAGES:
        blocks += _package_blocks(package, documented)
    errors = importlib.import_module("vggish.errors")
    blocks += ["## Exceptions", _as_markdown(errors.__doc__ or "")]
    return "\n\n".join(blocks) + "\n"


def _package_blocks(package: str, documented: dict[int, str]) -> Iterator[str]:
    module = importlib.import_module(package)
    yield f"## {package}"
    yield _as_markdown(module.__doc__ or "")
    for name in module.__all__:
        value = getattr(module, name)
        full_name = f"{package}.{name}"
        yield f"### {full_name}"
        known_as = documented.setdefault(id(value), full_name)
        if known_as == full_name:
            yield from _value_blocks(name, value)
        else:
            yield f"The same as [`{known_as}`](#{_anchor(known_as)})."


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w-]", "", heading).lower()


def _value_blocks(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _class_blocks(name, value)
    elif inspect.isroutine(value):
        yield _signature_block(name, value)
        yield _as_markdown(inspect.getdoc(value) or "")
    elif doc := inspect.getdoc(value) if inspect.ismodule(value) else None:
        yield _as_markdown(doc)
    else:
        yield f"    {name} = {value!r}"


def _class_blocks(name: str, class_: type) -> Iterator[str]:
    doc = inspect.getdoc(class_) or ""
    is_protocol_or_error = getattr(class_, "_is_protocol", False) or issubclass(class_, Exception)
    yield (
        f"```python\nclass {name}\n```" if is_protocol_or_error else _signature_block(name, class_)
    )
    yield _as_markdown(doc)
    for member_name, member in _public_members(class_).items():
        if isinstance(member, (classmethod, staticmethod)):
            member = member.__func__
        if isinstance(member, property):
            returned = inspect.signature(member.fget).return_annotation
            yield f"```python\n{name}.{member_name}: {returned}\n```"
        elif inspect.isroutine(member):
            yield _signature_block(f"{name}.{member_name}", member)
        else:
            continue
        yield _as_markdown(inspect.getdoc(member) or "")


def _public_members(class_: type) -> dict[str, Any]:
    """Methods and properties of a class and of our classes below it, in the order of the source."""
    fields = getattr(class_, "__dataclass_fields__", {})
    return {
        name: member
        for base in reversed(class_.__mro__)
        if base.__module__.split(".")[0] in PACKAGES
        for name, member in vars(base).items()
        if (name == "__call__" or not name.startswith("_")) and name not in fields
    }


def _signature_block(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(
            annotation=_annotation(parameter.annotation),
            # A function would be printed with its address.
            default=_ELLIPSIS if inspect.isroutine(parameter.default) else parameter.default,
        )
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    returned = (
        inspect.Signature.empty
        if inspect.isclass(function)
        else _annotation(signature.return_annotation)
    )
    text = f"{name}{signature.replace(parameters=parameters, return_annotation=returned)}"
    if len(text) > 90 and parameters:
        lines, has_star = [], False
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY and not has_star:
                lines.append("    *,")
            has_star |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
            lines.append(f"    {parameter},")
        arrow = "" if returned is inspect.Signature.empty else f" -> {returned}"
        text = "\n".join([f"{name}(", *lines, f"){arrow}"])
    return f"```python\n{text}\n```"


def _annotation(annotation: Any) -> Any:
    return _Annotation(annotation) if isinstance(annotation, str) else annotation


def _as_markdown(docstring: str) -> str:
    """Convert a docstring: sections to bold headings and lists, doctests to code blocks."""
    lines = docstring.strip().splitlines()
    blocks: list[str] = []
    i = 0
    while i < len(lines):
        heading = SECTIONS.fullmatch(lines[i])
        end = i + 1
        if heading:
            while end < len(lines) and (not lines[end] or lines[end].startswith(" ")):
                end += 1
            body = textwrap.dedent("\n".join(lines[i + 1 : end])).strip()
            text = _as_list(body) if heading[1] in LISTS else body
            blocks.append(f"{heading[1]}:\n\n{text}")
        else:
            while end < len(lines) and not SECTIONS.fullmatch(lines[end]):
                end += 1
            text = "\n".join(lines[i:end]).strip()
            blocks.append(re.sub(r"(?m)(^>>> .*(?:\n(?!\n).*)*)", r"```pycon\n\1\n```", text))
        i = end
    return "\n\n".join(block for block in blocks if block)


def _as_list(body: str) -> str:
    """Convert `name: text` entries with indented continuation lines to a list."""
    entries = re.split(r"\n(?=\S)", body)
    return "\n".join(
        re.sub(r"^(\*{0,2}[\w.]+(?:, \w+)*): ", r"- `\1`: ", re.sub(r"\n\s+", "\n  ", entry))
        for entry in entries
    )


if __name__ == "__main__":
    main()
