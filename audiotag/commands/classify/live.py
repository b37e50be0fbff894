"""`audiotag classify --live`: tag the microphone until interrupted."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from audiotag.commands.classify.options import Options
from audiotag.commands.classify.taggers import load_tagger
from audiotag.terminal.outputs import text_output
from audiotag.terminal.signals import EXIT_OK, Terminated
from classifier.live import LiveTagger
from classifier.output.live_report import LiveReport
from classifier.tags.types import LiveTags
from vggish.audio.microphone import Microphone
from vggish.audio.mono import SILENCE


def run_live(options: Options) -> int:
    """Tag the microphone until Ctrl-C, then log a summary."""
    microphone = Microphone(options.live_device)
    live = LiveTagger(load_tagger(options), microphone.sample_rate_hz, **options.choice)
    with text_output(None) as (write, style):
        report = LiveReport(microphone.sample_rate_hz, style, as_json=options.file_format == "json")

        def show(found: Iterable[LiveTags]) -> None:
            for line in report.lines(found):
                write(line + "\n")

        try:
            with microphone:
                options.log(f"listening to {microphone.name}; press Ctrl-C to stop")
                for block in microphone.blocks():
                    for note in report.notes(block):
                        options.log(note)
                    show(live.feed(block.samples))
            show(live.finish())
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Terminated):
                raise
            print(file=sys.stderr)  # after the ^C that the terminal shows
        finally:
            for warning in live.warnings:
                if warning != SILENCE:  # the report has a note about it
                    options.log(f"warning: {warning}")
            options.log(report.summary())
    return EXIT_OK
