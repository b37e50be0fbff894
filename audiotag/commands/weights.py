"""`audiotag weights`: list, fetch, install and verify weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiotag.commands.options import add_common
from audiotag.terminal.bars import download_bar
from audiotag.terminal.signals import EXIT_OK
from audiotag.terminal.stderr import hide_native_logs, status_printer
from vggish.errors import AudiotagError

if TYPE_CHECKING:
    from vggish.embedders.installed import InstalledWeights


# --- audiotag weights --------------------------------------------------------------------


_WHICH = "which weights (default: vggish)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Get VGGish's weights onto this machine, and look after them. They live in $AUDIOTAG_HOME (default ~/.cache/audiotag). The small embedder mini is built in."
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + "."
        )
        action.set_defaults(run_action=run)
        add_common(action)
        return action

    def add_install_options(action: argparse.ArgumentParser) -> None:
        action.add_argument(
            "--calibration",
            nargs="+",
            default=[],
            metavar="SOUND",
            help="recordings to calibrate int8 on (default: those that come with audiotag)",
        )
        action.add_argument(
            "--manifest",
            type=Path,
            metavar="FILE",
            help="another list of known weights, such as one with the URLs of a mirror",
        )
        action.add_argument(
            "--force", action="store_true", help="install again what is installed already"
        )

    add("list", _weights_list, "show which weights are known and installed")
    fetch = add("fetch", _weights_fetch, "download weights, convert, check and install them")
    fetch.add_argument("name", nargs="?", default="vggish", metavar="NAME", help=_WHICH)
    add_install_options(fetch)
    install = add("install", _weights_install, "install weights from files fetched elsewhere")
    install.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="vggish_model.ckpt, and vggish_pca_params.npz unless it lies beside it",
    )
    install.add_argument("--name", default="vggish", help=_WHICH)
    add_install_options(install)
    for name, run, summary in (
        ("verify", _weights_verify, "check installed weights against their checksums"),
        ("path", _weights_path, "print the directory of installed weights"),
    ):
        action = add(name, run, summary)
        action.add_argument(
            "name", nargs="?", default="vggish", metavar="NAME", help="vggish (default) or mini"
        )


def run(arguments: argparse.Namespace) -> int:
    status: int = arguments.run_action(arguments)
    return status


def _weights_list(options: argparse.Namespace) -> int:
    from vggish.embedders.installed import find_installed
    from vggish.embedders.manifest import known_weights
    from vggish.errors import WeightsNotInstalledError

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
                print("  these are NOT the weights described above: another manifest was used")
    _print_mini()
    return EXIT_OK


def _print_mini() -> None:
    from vggish.embedders.mini import find_mini

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


def _weights_fetch(options: argparse.Namespace) -> int:
    from vggish.embedders.install import install
    from vggish.embedders.manifest import find_known

    known = find_known(options.name, options.manifest)
    with hide_native_logs(options), download_bar(options) as on_progress:
        installed = install(
            known,
            status_printer(options),
            on_progress=on_progress,
            calibration=[Path(sound) for sound in options.calibration],
            force=options.force,
        )
    _tell_installed(options, installed)
    return EXIT_OK


def _weights_install(options: argparse.Namespace) -> int:
    from vggish.embedders.install import install
    from vggish.embedders.manifest import find_known

    known = find_known(options.name, options.manifest)
    with hide_native_logs(options):
        installed = install(
            known,
            status_printer(options),
            paths=options.files,
            calibration=[Path(sound) for sound in options.calibration],
            force=options.force,
        )
    _tell_installed(options, installed)
    return EXIT_OK


def _weights_verify(options: argparse.Namespace) -> int:
    from vggish.embedders.installed import find_installed
    from vggish.embedders.mini import MINI, find_mini

    if options.name == MINI:
        mini = find_mini(verify=True)
        if not options.quiet:
            print(f"{MINI}: 1 file in {mini.directory}, all right")
        return EXIT_OK
    installed = find_installed(options.name, verify=True)
    if not options.quiet:
        print(f"{options.name}: {len(installed.files)} files in {installed.directory}, all right")
    return EXIT_OK


def _weights_path(options: argparse.Namespace) -> int:
    from vggish.embedders.installed import find_installed
    from vggish.embedders.mini import MINI, find_mini

    found = find_mini() if options.name == MINI else find_installed(options.name)
    print(found.directory)
    return EXIT_OK


def _tell_installed(options: argparse.Namespace, installed: InstalledWeights) -> None:
    if not options.quiet:
        print(f"{installed.name} is installed and checked")
        _print_installed(installed)


def _print_installed(installed: InstalledWeights) -> None:
    size = sum(file.size for file in installed.files.values()) / 2**20
    fidelity = installed.facts["int8_fidelity"]
    print(f"  installed {installed.facts['installed_at']} in {installed.directory}, {size:.0f} MiB")
    print(f"  checkpoint sha256 {installed.checkpoint_sha256}")
    print(
        f"  int8 against float32, after PCA: cosine {fidelity['cosine_after_pca']:.4f}, "
        f"mean change {fidelity['mean_absolute_change']:.2f} of 255"
    )
