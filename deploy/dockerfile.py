"""The Dockerfile, read: stages and their instructions, with arguments and variables filled in.

As much of the language as audiotag's Dockerfile uses; whatever else is refused by name.
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
    """The text is no Dockerfile, or uses what is not known here."""


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: in capitals.
        value: what follows it and its flags, lines joined.
        flags: `--from=build` as {"from": "build"}.
        line: where it begins.
    """

    name: str
    value: str
    flags: Mapping[str, str]
    line: int

    @property
    def words(self) -> list[str]:
        """The value's words; of the JSON form its strings."""
        if self.is_json:
            words: list[str] = json.loads(self.value)
            return words
        return self.value.split()

    @property
    def is_json(self) -> bool:
        """Whether it is in the form ["program", "argument"], without a shell."""
        return self.value.startswith("[")


@dataclass
class Stage:
    """What lies between one FROM and the next.

    Attributes:
        base: image, or name of an earlier stage.
        name: "" where it has none.
        instructions: without FROM.
    """

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, name: str) -> Instruction:
        """The one of several that counts.

        Raises:
            DockerfileError: there is none.
        """
        for instruction in reversed(self.instructions):
            if instruction.name == name:
                return instruction
        raise DockerfileError(f"the stage {self.name or 'that is the image'!r} has no {name}")


def parse(text: str, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """Read a Dockerfile.

    Args:
        text: of the file.
        arguments: `--build-arg`.

    Raises:
        DockerfileError: there is an instruction that is not known here, or one without a stage.
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
            base, *rest = fill_in(value, outside).split()
            known = {}
            stages.append(Stage(base, rest[1] if rest else ""))
        elif not stages:
            raise DockerfileError(f"line {instruction.line}: {name} before the first FROM")
        else:
            filled = value
            # The shell and the running container fill in their own.
            if name not in ("RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK", "ENV"):
                filled = fill_in(value, known)
            stages[-1].instructions.append(
                Instruction(name, filled, instruction.flags, instruction.line)
            )
    return stages


def environment(value: str, before: Mapping[str, str]) -> dict[str, str]:
    """What ENV sets, with variables that were set before filled in."""
    return {name: fill_in(text.strip('"'), before) for name, text in _PAIR.findall(value)}


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """A text with $NAME and ${NAME} filled in; nothing for what is not known, as Docker does."""
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)


def read(path: Path, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """Read the file."""
    return parse(path.read_text("utf-8"), arguments)


def _instructions(text: str) -> list[Instruction]:
    found = []
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        # Comments may stand between the lines of one instruction.
        if line.strip() and not line.lstrip().startswith("#")
    ]
    while lines:
        number, line = lines.pop(0)
        while line.endswith("\\") and lines:
            line = line[:-1].rstrip() + " " + lines.pop(0)[1].strip()
        name, _, value = line.strip().partition(" ")
        if name not in KNOWN:
            raise DockerfileError(f"line {number}: the instruction {name} is not known here")
        flags = {}
        value = value.strip()
        while flag := _FLAG.match(value):
            flags[flag[1]] = flag[2]
            value = value[flag.end() :]
        found.append(Instruction(name, value, flags, number))
    return found
