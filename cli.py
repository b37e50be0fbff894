"""The command line: classify, embed, serve, train, evaluate, predict, export, inspect, weights.

Everything heavy is imported by the command that needs it: `audiotag --help` loads neither
numpy nor a runtime.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from audiotag.commands.classify.command import add_classify
from audiotag.commands.embed import add_embed
from audiotag.commands.evaluate import add_evaluate
from audiotag.commands.export import add_export
from audiotag.commands.inspect import add_inspect
from audiotag.commands.predict import add_predict
from audiotag.commands.serve import add_serve
from audiotag.commands.train import add_train
from audiotag.commands.weights import add_weights
from audiotag.terminal.signals import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    Terminated,
    install_signal_handlers,
)
from audiotag.terminal.stderr import explain
from audiotag.terminal.stdout import discard_stdout, flush_stdout
from vggish.common.wording import printable as _printable
from vggish.params import VERSION


class _Parser(argparse.ArgumentParser):
    """A parser that says what to do about files whose names look like options."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        odd = [name for name in self._given if name.startswith("-") and os.path.exists(name)]
        if odd:
            message += f"\n{odd[0]} is a file; write ./{odd[0]} (or ./* for *)"
        super().error(_printable(message))


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="audiotag", description="Sound in, tags out: VGGish embeddings and what they say."
    )
    parser.add_argument("--version", action="version", version=f"audiotag {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_classify(commands)
    add_embed(commands)
    add_serve(commands)
    add_train(commands)
    add_evaluate(commands)
    add_predict(commands)
    add_export(commands)
    add_inspect(commands)
    add_weights(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be Unicode
    options = build_parser().parse_args(arguments)
    # What it says of its caches and fonts is between our lines, and of no use to who reads them.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    install_signal_handlers()
    status: int = EXIT_OK
    try:
        status = options.run(options)
        flush_stdout()
    except BrokenPipeError:
        discard_stdout()
    except KeyboardInterrupt as interrupt:
        print(f"\naudiotag: interrupted{interrupt}", file=sys.stderr)
        status = EXIT_INTERRUPTED if not isinstance(interrupt, Terminated) else interrupt.status
    except Exception as error:
        if options.debug:
            raise
        print(_printable(f"audiotag: error: {explain(error)}"), file=sys.stderr)
        status = EXIT_USAGE
    return status


if __name__ == "__main__":
    sys.exit(main())
