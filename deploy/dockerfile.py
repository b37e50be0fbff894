"""Parse a Dockerfile into stages and instructions, with arguments and variables expanded.

Supports the instructions that audiotag's Dockerfile uses; others raise an error with their name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {
    *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER"),
    "WORKDIR",
}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")
_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


class DockerfileError(ValueError):
    """The text is not a Dockerfile, or uses an unsupported instruction."""


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: in upper case.
        value: the rest of the instruction after its flags, as one line.
        flags: `--from=build` as {"from": "build"}.
        line: number of its first line.
    """

    name: str
    value: str
    flags: Mapping[str, str]
    line: int

    @property
    def words(self) -> list[str]:
        """The words of the value, or the strings of its JSON form."""
        if self.is_json:
            words: list[str] = json.loads(self.value)
            return words
        return self.value.split()

    @property
    def is_json(self) -> bool:
        """Whether the value has the form ["program", "argument"], which uses no shell."""
        return self.value.startswith("[")


@dataclass
class Stage:
    """One stage: the instructions between one FROM and the next.

    Attributes:
        base: an image, or the name of an earlier stage.
        name: "" for a stage without a name.
        instructions: without FROM.
    """

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, name: str) -> Instruction:
        """The last instruction with a name, which overrides the others.

        Raises:
            DockerfileError: there is no such instruction.
        """
        for instruction in reversed(self.instructions):
            if instruction.name == name:
                return instruction
        raise DockerfileError(f"the stage {self.name or 'of the image'!r} has no {name}")


def parse(text: str, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """Parse the text of a Dockerfile.

    Args:
        text: content of the file.
        arguments: values of `--build-arg`.

    Raises:
        DockerfileError: an instruction is unsupported, or before the first FROM.
    """
    given = dict(arguments or {})
    outside: dict[str, str] = {}
    stages: list[Stage] = []
    known: dict[str, str] = {}
    for instruction in _instructions(text):
        name, value = instruction.name, instruction.value
        if name == "ARG":
            argument, _, default = value.partition("=")
            known[argument] = given.get(argument, default)
            if not stages:
                outside[argument] = known[argument]
        elif name == "FROM":
            base, *rest = expand(value, outside).split()
            known = {}
            stages.append(Stage(base, rest[1] if rest else ""))
        elif not stages:
            raise DockerfileError(f"line {instruction.line}: {name} before the first FROM")
        else:
            expanded = value
            # The shell and the running container expand variables themselves.
            if name not in ("RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK", "ENV"):
                expanded = expand(value, known)
            stages[-1].instructions.append(
                Instruction(name, expanded, instruction.flags, instruction.line)
            )
    return stages


def environment(value: str, before: Mapping[str, str]) -> dict[str, str]:
    """The variables that ENV sets, with earlier variables expanded."""
    return {name: expand(text.strip('"'), before) for name, text in _PAIR.findall(value)}


def expand(text: str, values: Mapping[str, str]) -> str:
    """Expand $NAME and ${NAME}; unknown names become empty, as in Docker."""
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)


def read(path: Path, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """Parse a Dockerfile."""
    return parse(path.read_text("utf-8"), arguments)


def _instructions(text: str) -> list[Instruction]:
    found = []
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        # Comments are allowed between the lines of one instruction.
        if line.strip() and not line.lstrip().startswith("#")
    ]
    while lines:
        number, line = lines.pop(0)
        while line.endswith("\\") and lines:
            line = line[:-1].rstrip() + " " + lines.pop(0)[1].strip()
        name, _, value = line.strip().partition(" ")
        if name not in KNOWN:
            raise DockerfileError(f"line {number}: the instruction {name} is not supported here")
        flags = {}
        value = value.strip()
        while flag := _FLAG.match(value):
            flags[flag[1]] = flag[2]
            value = value[flag.end() :]
        found.append(Instruction(name, value, flags, number))
    return found
