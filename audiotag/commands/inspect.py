"""`audiotag inspect`: describe files of frames, bundles and audio files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiotag.commands.options import FRAMES, CommonOptions, add_options, option
from audiotag.terminal.outputs import check_writable
from audiotag.terminal.signals import EXIT_OK, EXIT_SOME_FAILED
from audiotag.terminal.streams import print_json, print_result, require_stdout
from classifier.inspect import inspect_paths
from classifier.labels import audioset_labels, read_labels
from classifier.reports.figures import check_drawable
from classifier.reports.inspection_plot import plot_inspection
from vggish.common.wording import printable

_EPILOG = """\
examples:
  audiotag inspect data/*.tfrecord --plot classes.png
                                           clips, labels, damaged records
  audiotag inspect data/ --labels classes.csv --json
  audiotag inspect runs/gru-1 audioset-gru checksums, training data of bundles
  audiotag inspect clips/                  formats, durations, unreadable files

exit status:
  0 all intact    1 a file is damaged or unreadable    2 nothing was inspected
"""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    """The options of `audiotag inspect`."""

    files: Sequence[str] = option(
        "file, directory, bundle, or quoted pattern", flags="files", **FRAMES
    )
    labels: Path | None = option(
        "names of the classes (default: those of AudioSet), with the columns index, mid, "
        "display_name",
        "CSV",
    )
    json: bool = option("print JSON instead of tables")
    plot: Path | None = option("draw the distributions (.png, .svg, .pdf)", "PNG")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audiotag inspect`."""
    parser.description = "Describe files of frames, bundles and audio files, and find damage."
    parser.epilog = _EPILOG
    add_options(parser, Options)


def run(arguments: argparse.Namespace) -> int:
    """Print what the files hold."""
    options = Options(**vars(arguments))
    if options.plot is None:
        require_stdout()
    else:
        check_writable(options.plot, "--plot")
        check_drawable(options.plot)
    labels = audioset_labels() if options.labels is None else read_labels(options.labels)
    found = inspect_paths(options.files, labels, for_plot=options.plot is not None)
    if options.json:
        print_json([inspection.as_json() for inspection in found])
    else:
        print_result(printable("\n\n".join("\n".join(one.lines()) for one in found)))
    if options.plot is not None:
        plot_inspection(found[0], options.plot)
    return EXIT_OK if all(one.is_intact for one in found) else EXIT_SOME_FAILED
