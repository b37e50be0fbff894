"""`audiotag weights`: list, fetch, install and verify weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiotag.commands.options import CommonOptions, add_options, option
from audiotag.terminal.bars import download_bar
from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.streams import hide_native_logs
from vggish.embedders.installed import InstalledWeights, find_installed
from vggish.embedders.manifest import find_known, known_weights
from vggish.embedders.mini import MINI, find_mini
from vggish.errors import AudiotagError, WeightsNotInstalledError

_ACTIONS = {
    "list": "show which weights are known and which are installed",
    "fetch": "download weights, convert, verify and install them",
    "install": "install weights from downloaded files",
    "verify": "verify installed weights against their checksums",
    "path": "print the directory of installed weights",
}


@dataclass(frozen=True, kw_only=True)
class _InstallOptions:
    """The options of `fetch` and `install`."""

    calibration: Sequence[Path] = option(
        "recordings to calibrate int8 on (default: those that come with audiotag)",
        "AUDIO",
        action="store",
    )
    manifest: Path | None = option(
        "another manifest of known weights, such as one with the URLs of a mirror", "FILE"
    )
    force: bool = option("install weights again if they are installed")


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions, _InstallOptions):
    """The options of `audiotag weights`; each action has some of them."""

    action: str
    name: str = "vggish"
    files: Sequence[Path] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `audiotag weights`."""
    parser.description = (
        "Fetch, install and verify the weights of VGGish, in $AUDIOTAG_HOME (default:\n"
        "~/.cache/audiotag). The small embedder mini is built in."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in _ACTIONS.items():
        action = actions.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=parser.formatter_class,
        )
        add_options(action, CommonOptions)
        if name == "install":
            action.add_argument(
                "files",
                nargs="+",
                type=Path,
                metavar="FILE",
                help="vggish_model.ckpt, and vggish_pca_params.npz if it is in another directory",
            )
            action.add_argument("--name", default="vggish", help="weights (default: vggish)")
        elif name != "list":
            which = "weights" if name == "fetch" else "vggish or mini"
            action.add_argument(
                "name",
                nargs="?",
                default="vggish",
                metavar="NAME",
                help=f"{which} (default: vggish)",
            )
        if name in ("fetch", "install"):
            add_options(action, _InstallOptions)


def run(arguments: argparse.Namespace) -> int:
    """Run an action of `audiotag weights`."""
    options = Options(**vars(arguments))
    if options.action == "list":
        _list_weights()
    elif options.action == "verify":
        _verify_weights(options)
    elif options.action == "path":
        print((find_mini() if options.name == MINI else find_installed(options.name)).directory)
    else:
        _install_weights(options)
    return EXIT_OK


def _list_weights() -> None:
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


def _install_weights(options: Options) -> None:
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


def _verify_weights(options: Options) -> None:
    if options.name == MINI:
        n_files, directory = "1 file", find_mini(verify=True).directory
    else:
        installed = find_installed(options.name, verify=True)
        n_files, directory = f"{len(installed.files)} files", installed.directory
    if not options.quiet:
        print(f"{options.name}: {n_files} in {directory}, intact")


def _print_installed(installed: InstalledWeights) -> None:
    size = sum(file.size for file in installed.files.values()) / 2**20
    fidelity = installed.facts["int8_fidelity"]
    print(f"  installed {installed.facts['installed_at']} in {installed.directory}, {size:.0f} MiB")
    print(f"  checkpoint sha256 {installed.checkpoint_sha256}")
    print(
        f"  int8 against float32, after PCA: cosine {fidelity['cosine_after_pca']:.4f}, "
        f"mean change {fidelity['mean_absolute_change']:.2f} of 255"
    )
