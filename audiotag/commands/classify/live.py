"""`audiotag classify --live`: tag the microphone until interrupted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from audiotag.commands.classify.taggers import load_tagger, tag_options
from audiotag.commands.options import option_name
from audiotag.terminal.signals import EXIT_OK, Terminated
from audiotag.terminal.stderr import print_status
from audiotag.terminal.stdout import text_output
from vggish.errors import OptionError

if TYPE_CHECKING:
    from classifier.tags.types import LiveTags


def run_live(options: argparse.Namespace) -> int:
    """Listen to the microphone until Ctrl-C, and sum up."""
    for option, usual in _NOT_LIVE.items():
        if getattr(options, option) != usual:
            what = {"inputs": "inputs", "out": "-o"}.get(option, option_name(option))
            raise OptionError(f"--live takes no {what}: it prints lines, or JSON with --json")
    from classifier.live import LiveTagger
    from classifier.output.live_report import LiveReport
    from vggish.audio.microphone import Microphone

    microphone = Microphone(options.live_device)
    tagger = load_tagger(options)
    live = LiveTagger(tagger, microphone.sample_rate_hz, **tag_options(options))
    with text_output(None) as (write, look):
        report = LiveReport(microphone.sample_rate_hz, look, as_json=options.json)

        def show(found: Iterable[LiveTags]) -> None:
            for line in report.lines(found):
                write(line + "\n")

        try:
            with microphone:
                print_status(options, f"listening to {microphone.name}; Ctrl-C stops")
                for block in microphone.blocks():
                    for note in report.notes(block):
                        print_status(options, note)
                    show(live.feed(block.samples))
            show(live.finish())
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Terminated):
                raise
            print(file=sys.stderr)  # after the ^C that the terminal shows
        finally:
            print_status(options, report.summary())
    return EXIT_OK


# What the microphone has no use for, with what it is when it is not given.
_NOT_LIVE: dict[str, Any] = {
    "inputs": [],
    **dict.fromkeys(("files_from", "out", "out_dir", "plot", "server", "api_key_file")),
    **dict.fromkeys(("csv", "srt", "audacity", "raven", "frames", "segments"), False),
}
