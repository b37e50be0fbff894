"""`audiotag inspect`: describe a bundle or a training run, and find suspicious labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from audiotag.commands.options import add_common, add_labels_option, nonempty_name
from audiotag.terminal.outputs import check_writable
from audiotag.terminal.signals import EXIT_OK, EXIT_SOME_FAILED
from audiotag.terminal.stdout import print_result, require_stdout, to_json
from vggish.common.wording import printable as _printable

_INSPECT_EPILOG = """\
examples:
  audiotag inspect data/*.tfrecord --plot classes.png    clips, labels, and what is damaged
  audiotag inspect data/ --labels classes.csv --json
  audiotag inspect runs/gru-1 audioset-gru               bundles: whole? trained on what?
  audiotag inspect sounds/                               formats, durations, what cannot be read

exit status:
  0 all is well    1 something is damaged or cannot be read    2 nothing could be done
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Say what is in files of frames, bundles and sound files."
    parser.epilog = _INSPECT_EPILOG
    parser.add_argument(
        "files",
        type=nonempty_name,
        nargs="+",
        metavar="FILE",
        help="files, directories, bundles, 'patterns'",
    )
    add_labels_option(parser, "names of the classes (default: AudioSet's)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw it (.png, .svg, .pdf)")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    from classifier.inspect import inspect_paths
    from classifier.labels import audioset_labels, read_labels
    from classifier.reports.figures import check_drawable
    from classifier.reports.inspection_plot import plot_inspection

    if options.plot is None:
        require_stdout()
    else:
        check_writable(options.plot, "--plot")
        check_drawable(options.plot)
    labels = audioset_labels() if options.labels is None else read_labels(options.labels)
    found = inspect_paths(options.files, labels, for_plot=options.plot is not None)
    if options.json:
        print_result(to_json([inspection.as_json() for inspection in found]))
    else:
        print_result(_printable("\n\n".join("\n".join(one.lines()) for one in found)))
    if options.plot is not None:
        plot_inspection(found[0], options.plot)
    return EXIT_OK if all(one.is_intact for one in found) else EXIT_SOME_FAILED
