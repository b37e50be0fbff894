"""The command line of audiotag: the table of commands, errors in words, and the exit status."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from audiotag.terminal import signals, streams
from audiotag.terminal.help import help_formatter
from vggish.common.wording import printable
from vggish.params import VERSION

# Each module has `add_arguments(parser)` and `run(arguments) -> exit status`. Only the module of
# the command that runs is imported, so that `audiotag --help` loads none of them.
COMMANDS = {
    "classify": ("audiotag.commands.classify.command", "tag audio files, or the microphone"),
    "embed": ("audiotag.commands.embed", "write AudioSet-compatible frames of audio files"),
    "serve": ("audiotag.commands.serve", "serve the tagger over HTTP, with a web page"),
    "train": ("audiotag.commands.train", "train a head on labelled frames or audio"),
    "evaluate": ("audiotag.commands.evaluate", "evaluate a bundle on labelled frames"),
    "predict": ("audiotag.commands.predict", "predict scores for clips of frames"),
    "export": ("audiotag.commands.export", "export training runs as a bundle"),
    "inspect": ("audiotag.commands.inspect", "describe frames, bundles and audio files"),
    "weights": ("audiotag.commands.weights", "install and verify the weights of VGGish"),
}


class _Parser(argparse.ArgumentParser):
    """A parser that explains file names that look like options."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        odd = [name for name in self._given if name.startswith("-") and os.path.exists(name)]
        if odd:
            message += f"\n{odd[0]} is a file; write ./{odd[0]} (or ./* for *)"
        super().error(printable(message))


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line, with the arguments of one command."""
    formatter = help_formatter()
    parser = _Parser(
        prog="audiotag",
        formatter_class=formatter,
        description="Tag audio with AudioSet's sound classes, or with classes of your own.",
        epilog="audiotag COMMAND --help describes the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"audiotag {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        subparser = commands.add_parser(name, help=summary, formatter_class=formatter)
        if name == command:
            importlib.import_module(module).add_arguments(subparser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be Unicode
    given = sys.argv[1:] if arguments is None else list(arguments)
    # The first argument that is no option: the top parser has only --help and --version.
    command = next((argument for argument in given if not argument.startswith("-")), "")
    # matplotlib logs about its caches and fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    signals.install_signal_handlers()
    parsed = argparse.Namespace(debug="--debug" in given)
    try:
        parsed = build_parser(command).parse_args(given)
        status: int = importlib.import_module(COMMANDS[command][0]).run(parsed)
        streams.flush_stdout()
    except BrokenPipeError:
        streams.discard_stdout()
        return signals.EXIT_OK
    except KeyboardInterrupt as interrupt:
        print(f"\naudiotag: interrupted{interrupt}", file=sys.stderr)
        return getattr(interrupt, "status", signals.EXIT_INTERRUPTED)
    except Exception as error:
        if parsed.debug:
            raise
        streams.log(f"error: {streams.explain(error)}")
        return signals.EXIT_USAGE
    return status


if __name__ == "__main__":
    sys.exit(main())
