"""The formatter of help texts."""

from __future__ import annotations

import argparse
import sys


def help_formatter() -> type[argparse.HelpFormatter]:
    """A formatter in colour for a terminal, and one of plain text for pipes and files.

    Both wrap the help of options to the width of the terminal, and keep the lines of descriptions.
    rich-argparse takes 80 ms to import, so plain text does without.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        return argparse.RawDescriptionHelpFormatter
    from rich_argparse import RawDescriptionRichHelpFormatter

    class Formatter(RawDescriptionRichHelpFormatter):
        group_name_formatter = str  # not in title case

    return Formatter
