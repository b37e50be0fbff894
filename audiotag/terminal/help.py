"""The formatter of help texts."""

from __future__ import annotations

import argparse
import sys
from typing import Any


class _PlainFormatter(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        raw = argparse.RawDescriptionHelpFormatter
        kind = raw if "\n" in text else argparse.HelpFormatter
        return kind._fill_text(self, text, width, indent)


def help_formatter() -> type[argparse.HelpFormatter]:
    """A formatter in colour for a terminal, and one of plain text for pipes and files.

    Both wrap text to the width of the terminal, but keep the lines of a description or an epilog
    that has several. rich-argparse takes 80 ms to import, so plain text does without.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        return _PlainFormatter
    from rich_argparse import RawDescriptionRichHelpFormatter, RichHelpFormatter

    class Formatter(RichHelpFormatter):
        group_name_formatter = str  # not in title case

        def _rich_fill_text(self, text: Any, width: int, indent: Any) -> Any:
            kind = RawDescriptionRichHelpFormatter if "\n" in text.plain else RichHelpFormatter
            return kind._rich_fill_text(self, text, width, indent)

    return Formatter
