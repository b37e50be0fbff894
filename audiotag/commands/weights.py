"""`audiotag weights`: list, fetch, install and verify weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiotag.commands.options import CommonOptions, add_options
from audiotag.terminal.bars import download_bar
from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.stderr import hide_native_logs
from vggish.embedders.installed import InstalledWeights, find_installed
from vggish.embedders.manifest import find_known, known_weights
from vggish.embedders.mini import MINI, find_mini
from vggish.errors import AudiotagError, WeightsNotInstalledError


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    """The options of `audiotag weights`; each action has some of them."""

    action: str
    name: str = "vggish"
    files: Sequence[Path] = ()
    calibration: Sequence[Path] = ()
    manifest: Path | None = None
    force: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `audiotag weights`."""
    parser.description = (
        "Fetch, install and verify the weights of VGGish, in $AUDIOTAG_HOME (default:\n"
        "~/.cache/audiotag). The small embedder mini is built in."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=parser.formatter_class,
        )
        add_options(action, CommonOptions)
        return action

    add("list", "show which weights are known and which are installed")
    fetch_parser = add("fetch", "download weights, convert, verify and install them")
    fetch_parser.add_argument(
        "name", nargs="?", default="vggish", metavar="NAME", help="weights (default: vggish)"
    )
    install_parser = add("install", "install weights from downloaded files")
    install_parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="vggish_model.ckpt, and vggish_pca_params.npz if it is in another directory",
    )
    install_parser.add_argument("--name", default="vggish", help="weights (default: vggish)")
    for action in (fetch_parser, install_parser):
        action.add_argument(
            "--calibration",
            nargs="+",
            type=Path,
            default=[],
            metavar="AUDIO",
            help="recordings to calibrate int8 on (default: those that come with audiotag)",
        )
        action.add_argument(
            "--manifest",
            type=Path,
            metavar="FILE",
            help="another manifest of known weights, such as one with the URLs of a mirror",
        )
        action.add_argument(
            "--force", action="store_true", help="install weights again if they are installed"
        )
    for name, summary in (
        ("verify", "verify installed weights against their checksums"),
        ("path", "print the directory of installed weights"),
    ):
        add(name, summary).add_argument(
            "name",
            nargs="?",
            default="vggish",
            metavar="NAME",
            help="vggish or mini (default: vggish)",
        )


def run(arguments: argparse.Namespace) -> int:
    """Run `audiotag weights`."""
    options = Options(**vars(arguments))
    actions = {
        "list": list_weights,
        "fetch": install_weights,
        "install": install_weights,
        "verify": verify_weights,
        "path": print_path,
    }
    actions[options.action](options)
    return EXIT_OK


def list_weights(options: Options) -> None:
    """Print the known weights, and how they are installed."""
    for known in known_weights().values():
        print(f"{known.name}: {known.description} ({known.licence})")
        try:
            installed = find_installed(known.name)
        except WeightsNotInstalledError:
            print(f"  not installed; get it with: audiotag weights fetch {known.name}")
        except AudiotagError as error:
            print(f"  damaged: {error}")
        else:
            _print_installed(installed)
            if not installed.is_made_from(known):
                print("  these are NOT the weights above: they were installed by another manifest")
    try:
        mini = find_mini()
    except AudiotagError as error:
        print(f"mini: the small embedder that comes with audiotag\n  {error}")
        return
    print(f"mini: the small embedder that comes with audiotag ({mini.licence})")
    print(
        f"  built in, version {mini.version}, {mini.precision}, {mini.n_parameters:,} parameters, "
        f"{mini.size / 2**20:.1f} MiB in {mini.directory}"
    )
    print(f"  sha256 {mini.sha256}")


def install_weights(options: Options) -> None:
    """Install weights from the network, or from files."""
    from vggish.embedders.install import install  # late: it loads numpy, for the conversion

    known = find_known(options.name, options.manifest)
    with hide_native_logs(debug=options.debug), download_bar(quiet=options.quiet) as on_progress:
        installed = install(
            known,
            options.log,
            paths=options.files or None,
            on_progress=on_progress,
            calibration=options.calibration,
            force=options.force,
        )
    if not options.quiet:
        print(f"{installed.name} is installed and verified")
        _print_installed(installed)


def verify_weights(options: Options) -> None:
    """Compare installed weights with their checksums."""
    if options.name == MINI:
        n_files, directory = "1 file", find_mini(verify=True).directory
    else:
        installed = find_installed(options.name, verify=True)
        n_files, directory = f"{len(installed.files)} files", installed.directory
    if not options.quiet:
        print(f"{options.name}: {n_files} in {directory}, intact")


def print_path(options: Options) -> None:
    """Print the directory of installed weights."""
    found = find_mini() if options.name == MINI else find_installed(options.name)
    print(found.directory)


def _print_installed(installed: InstalledWeights) -> None:
    size = sum(file.size for file in installed.files.values()) / 2**20
    fidelity = installed.facts["int8_fidelity"]
    print(f"  installed {installed.facts['installed_at']} in {installed.directory}, {size:.0f} MiB")
    print(f"  checkpoint sha256 {installed.checkpoint_sha256}")
    print(
        f"  int8 against float32, after PCA: cosine {fidelity['cosine_after_pca']:.4f}, "
        f"mean change {fidelity['mean_absolute_change']:.2f} of 255"
    )
