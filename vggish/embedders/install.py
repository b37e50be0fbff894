"""Fetch, convert and install the weights of VGGish."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.common.checksums import sha256_of
from vggish.common.files import audiotag_home
from vggish.embedders.download import Progress, check_file, download
from vggish.embedders.installed import (
    HOW_TO_INSTALL,
    INSTALLED,
    InstalledFile,
    find_installed,
    verify,
)
from vggish.errors import DownloadError, OptionError, WeightsError
from vggish.params import VERSION
from vggish.postprocess import load_pca

if TYPE_CHECKING:
    from vggish.embedders.installed import InstalledWeights
    from vggish.embedders.manifest import KnownWeights


_PLACED = re.compile(r"(float32|int8|pca)-[0-9a-f]{12}\.(onnx|npz)")

# Room for the networks, and for the two copies that ONNX Runtime makes to quantise one, in
# times the size of the checkpoint.
_CONVERSION_ROOM = 4.5

_VERSIONED_PACKAGES = ("tensorflow", "tf-keras", "onnx", "onnxruntime", "numpy")


def fetch(
    known: KnownWeights,
    report: Callable[[str], None],
    on_progress: Progress | None = None,
    *,
    calibration: Sequence[Path] = (),
    force: bool = False,
) -> InstalledWeights:
    """Download the files of `known`, convert, check and install them.

    Args:
        known: an entry of the manifest.
        report: called with a line about each step.
        on_progress: called with (bytes so far, bytes in all) of the file under way.
        calibration: recordings to calibrate int8 on; those that audiotag ships by default.
        force: install again even if they are installed and verified.

    Raises:
        DownloadError, ConversionError, WeightsError: see there; nothing is half-installed.
        OptionError: a calibration recording does not exist.
        MissingPackageError: the extra `train` is not installed; nothing was downloaded.
    """
    sounds = _calibration_sounds(calibration)
    with _installing(known, report, force) as installed:
        if installed is not None:
            return installed
        _require_converter()
        downloads = audiotag_home() / known.name / "downloads"
        _require_room(known, downloads)
        sources = {}
        for key, file in known.files.items():
            report(f"downloading {file.url} ({file.size:,} bytes)")
            try:
                sources[key] = download(file, downloads, on_progress)
            except DownloadError as error:
                raise DownloadError(
                    f"{error}\nOr fetch {file.name} elsewhere: audiotag weights install --help"
                ) from error
        result = _convert_and_place(known, sources, sounds, report)
        shutil.rmtree(downloads, ignore_errors=True)
        return result


def install(
    known: KnownWeights,
    paths: Sequence[Path],
    report: Callable[[str], None],
    *,
    calibration: Sequence[Path] = (),
    force: bool = False,
) -> InstalledWeights:
    """Install `known` from files that were fetched elsewhere; the files stay where they are.

    Args:
        known: an entry of the manifest.
        paths: the checkpoint, and the PCA file unless it lies beside the checkpoint under its
            own name. Files are recognised by their sizes, and checked by their sha256.
        report: called with a line about each step.
        calibration: recordings to calibrate int8 on; those that audiotag ships by default.
        force: install again even if they are installed and verified.

    Raises:
        WeightsError: a file is not what it should be, or one is missing.
        ConversionError: the conversion failed a check; nothing is half-installed.
        OptionError: a calibration recording does not exist.
        MissingPackageError: the extra `train` is not installed.
    """
    sounds = _calibration_sounds(calibration)
    sources = _recognise(known, paths)
    with _installing(known, report, force) as installed:
        if installed is not None:
            return installed
        _require_converter()
        _require_room(known, None)
        return _convert_and_place(known, sources, sounds, report)


@contextlib.contextmanager
def _installing(
    known: KnownWeights, report: Callable[[str], None], force: bool
) -> Iterator[InstalledWeights | None]:
    """Hold the lock of `known`; yields what is installed already and need not be again."""
    import filelock

    home = audiotag_home()
    lock = filelock.FileLock(home / f"{known.name}.lock")
    try:
        home.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            report(f"another process is installing {known.name!r}; waiting for it")
            lock.acquire()
        except NotImplementedError:  # some network file systems know no locks
            pass
        try:
            installed = None if force else _installed_and_right(known)
            if installed is not None:
                report(f"{known.name!r} is installed already; --force installs it again")
            yield installed
        finally:
            lock.release()
    except OSError as error:
        # A full disk, a directory that must not be written to, a file where one should be.
        where = f" ({error.filename})" if error.filename else ""
        raise WeightsError(
            f"cannot install into {home}: {error.strerror or error}{where}.\n"
            "Make room or permit writing there, or set AUDIOTAG_HOME to another directory"
        ) from error


def _installed_and_right(known: KnownWeights) -> InstalledWeights | None:
    try:
        installed = verify(known.name)
    except WeightsError:
        return None
    return installed if installed.is_made_from(known) else None


def _recognise(known: KnownWeights, paths: Sequence[Path]) -> dict[str, Path]:
    candidates = list(paths)
    for path in paths:
        if not path.is_file():
            raise WeightsError(f"no file at {path}")
        candidates += [path.parent / file.name for file in known.files.values()]
    sources: dict[str, Path] = {}
    for key, file in known.files.items():
        fitting = (p for p in candidates if p.is_file() and p.stat().st_size == file.size)
        found = next(fitting, None)
        if found is not None:
            sources[key] = found
    sizes = {path.stat().st_size for path in sources.values()}
    for path in paths:
        if path.stat().st_size not in sizes:
            wanted = "\n".join(f"  {f.name}: {f.size:,} bytes" for f in known.files.values())
            raise WeightsError(
                f"{path} is no file of {known.name!r}: it has {path.stat().st_size:,} bytes.\n"
                f"Expected one of:\n{wanted}"
            )
    for key, file in known.files.items():
        if key not in sources:
            raise WeightsError(
                f"also needed: {file.name} ({file.size:,} bytes), from {file.url}\n"
                "Put it beside the other file, or name both."
            )
        check_file(sources[key], file)
    return sources


def _convert_and_place(
    known: KnownWeights,
    sources: Mapping[str, Path],
    sounds: Sequence[Path],
    report: Callable[[str], None],
) -> InstalledWeights:
    from vggish.network.convert import convert_checkpoint

    directory = audiotag_home() / known.name
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob("staging-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix="staging-", dir=directory, ignore_cleanup_errors=True
    ) as staging_name:
        staging = Path(staging_name)
        shutil.copyfile(sources["pca"], staging / HOW_TO_INSTALL["pca"])
        facts = convert_checkpoint(
            sources["checkpoint"],
            known.files["checkpoint"].sha256,
            load_pca(staging / HOW_TO_INSTALL["pca"]),
            sounds,
            known.smoke_test,
            staging,
            report,
        )
        facts["calibration"] = [sound.name for sound in sounds]
        facts["versions"] = _versions()
        facts["installed_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        files = {key: _place(staging / name, directory) for key, name in HOW_TO_INSTALL.items()}
        record = {
            "checkpoint_sha256": known.files["checkpoint"].sha256,
            "files": {key: asdict(file) for key, file in files.items()},
            "facts": facts,
        }
        written = staging / INSTALLED
        written.write_text(json.dumps(record, indent=2), "utf-8")
        _flush(written)
        written.replace(directory / INSTALLED)
    current = {file.name for file in files.values()}
    for path in directory.iterdir():
        # Only what an installation made: people keep other files in that directory, too.
        if _PLACED.fullmatch(path.name) and path.name not in current:
            # A process that still reads an old file keeps it open; Windows refuses, no matter.
            with contextlib.suppress(OSError):
                path.unlink()
    return find_installed(known.name)


def shipped_recordings() -> list[Path]:
    """The short recordings of real sound that come with audiotag."""
    clips = Path(str(resources.files("weights"))) / "clips"
    return sorted(path for path in clips.iterdir() if path.suffix in AUDIO_SUFFIXES)


def _place(path: Path, directory: Path) -> InstalledFile:
    digest, size = sha256_of(path), path.stat().st_size
    name = f"{path.stem}-{digest[:12]}{path.suffix}"
    _flush(path)
    path.replace(directory / name)
    return InstalledFile(name, size, digest)


def _flush(path: Path) -> None:
    """Put a file on the disk before its name is, or a power cut could leave the name alone."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _calibration_sounds(calibration: Sequence[Path]) -> list[Path]:
    for sound in calibration:
        if not sound.is_file():
            raise OptionError(f"no recording to calibrate on at {sound}")
    return list(calibration) or shipped_recordings()


def _require_room(known: KnownWeights, downloads: Path | None) -> None:
    """Refuse now what would fill the disk in a minute."""
    checkpoint = known.files["checkpoint"]
    needed = int(checkpoint.size * _CONVERSION_ROOM)
    if downloads is not None:
        there = [downloads / checkpoint.name, downloads / f"{checkpoint.name}.part"]
        needed += checkpoint.size - sum(path.stat().st_size for path in there if path.exists())
    free = shutil.disk_usage(audiotag_home()).free
    if free < needed:
        raise WeightsError(
            f"too little room in {audiotag_home()}: {free / 2**20:,.0f} MiB are free, about "
            f"{needed / 2**20:,.0f} MiB are needed.\n"
            "Make room, or set AUDIOTAG_HOME to another directory"
        )


def _require_converter() -> None:
    """Refuse before hundreds of megabytes are fetched, not after."""
    from vggish.network.architecture import import_tf_keras
    from vggish.network.onnx_graph import import_onnx

    import_tf_keras()
    import_onnx()


def _versions() -> dict[str, str]:
    versions = {"audiotag": VERSION}
    for package in _VERSIONED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
