"""`audiotag serve`: run the HTTP service."""

from __future__ import annotations

import argparse
import sys

from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.streams import print_result
from vggish.common.extras import import_extra
from vggish.common.wording import printable

# Modules of the extra `serve` that the service needs.
REQUIRED = (
    "pydantic_settings",
    "python_multipart",
    "prometheus_client",
    "uvicorn",
    "websockets",
    "fastapi",
)

_SERVE_EPILOG = """\
Each setting has a flag (--max-uploads), an environment variable
(AUDIOTAG_MAX_UPLOADS) and a name in the settings file (max_uploads = 128). A
flag overrides a variable, and a variable the file.

examples:
  audiotag serve                           for this machine, on port 8000
  audiotag serve --host 0.0.0.0 --api-keys-file keys.txt
                                           for other machines, with an API key
  audiotag serve --models runs/mine,audioset --workers 2
  audiotag serve --config service.toml --show-config > all.toml

SIGTERM and Ctrl-C let running requests finish; a second Ctrl-C does not.
SIGHUP reloads changed bundles.

exit status:
  0 stopped by a signal    1 could not start, or was interrupted twice
  2 invalid setting
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `audiotag serve`."""
    import_extra("pydantic_settings", extra="serve", purpose="audiotag serve")
    from service.settings.flags import add_flags

    parser.usage = "audiotag serve [options]"
    parser.description = "Serve the tagger over HTTP, with a web page."
    parser.epilog = _SERVE_EPILOG
    parser.add_argument(
        "--config", metavar="FILE", help="settings file in TOML format (default: AUDIOTAG_CONFIG)"
    )
    parser.add_argument(
        "--show-config",
        action="store_true",
        help="print all settings as a settings file, each with its origin, and exit",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    add_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Run `audiotag serve`."""
    from service.settings.flags import flags_of
    from service.settings.sources import load_settings

    settings = load_settings(flags_of(options), options.config)
    for note in settings.notes:
        print(printable(f"audiotag: note: {note}"), file=sys.stderr)
    if options.show_config:
        print_result(settings.describe().rstrip())
        return EXIT_OK
    for module in REQUIRED:
        import_extra(module, extra="serve", purpose="audiotag serve")
    from service.server.serve import serve

    return serve(settings.config)
