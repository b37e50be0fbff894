"""`audiotag serve`: run the HTTP service."""

from __future__ import annotations

import argparse
import sys

from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.stdout import print_result
from vggish.common.wording import printable as _printable

# --- audiotag serve ----------------------------------------------------------------------


_SERVE_EPILOG = """\
Each setting is also a variable (--max-uploads: AUDIOTAG_MAX_UPLOADS) and a line of the settings
file (max_uploads = 128). A flag goes before a variable, and a variable before the file.

examples:
  audiotag serve                                http://127.0.0.1:8000/, for this machine
  audiotag serve --host 0.0.0.0 --api-keys-file keys.txt
                                                for others, who need one of the keys
  audiotag serve --models runs/mine,audioset --workers 2
  audiotag serve --config service.toml --show-config > all.toml

SIGTERM and Ctrl-C let requests end, a second one does not. SIGHUP loads changed bundles.

exit status:
  0 stopped as told    1 could not start, or not end in time    2 a setting is wrong
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from service.settings.flags import add_flags

    parser.usage = "audiotag serve [options]"
    parser.description = "Serve the tagger over HTTP, with a page to hear and see with."
    parser.epilog = _SERVE_EPILOG
    parser.add_argument(
        "--config", metavar="FILE", help="a settings file, TOML (or AUDIOTAG_CONFIG names it)"
    )
    parser.add_argument(
        "--show-config",
        action="store_true",
        help="print all settings, and where each comes from, as a settings file; serve nothing",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    add_flags(parser)


def run(options: argparse.Namespace) -> int:
    from service.settings.flags import flags_of
    from service.settings.sources import load_settings

    settings = load_settings(flags_of(options), options.config)
    for note in settings.notes:
        print(_printable(f"audiotag: note: {note}"), file=sys.stderr)
    if options.show_config:
        print_result(settings.describe().rstrip())
        return EXIT_OK
    from service.server.serve import serve

    return serve(settings.config)
