"""Download, convert and install the weights of VGGish."""

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

import filelock

from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.common.files import audiotag_home, sha256_of
from vggish.embedders.download import OnDownloadProgress, check_file, download
from vggish.embedders.installed import (
    CONVERTED_FILES,
    RECORD_NAME,
    InstalledFile,
    InstalledWeights,
    find_installed,
)
from vggish.embedders.manifest import KnownWeights
from vggish.errors import DownloadError, OptionError, WeightsError
from vggish.network.architecture import import_tf_keras
from vggish.network.convert import convert_checkpoint
from vggish.network.onnx_graph import import_onnx
from vggish.params import VERSION
from vggish.postprocess import load_pca

Report = Callable[[str], None]
_INSTALLED_NAME = re.compile(r"(float32|int8|pca)-[0-9a-f]{12}\.(onnx|npz)")


def install(
    known: KnownWeights,
    report: Report,
    *,
    paths: Sequence[Path] | None = None,
    on_progress: OnDownloadProgress | None = None,
    calibration: Sequence[Path] = (),
    force: bool = False,
) -> InstalledWeights:
    """Download, convert, check and install weights. After an error nothing is half-installed.

    `report` is called with a line about each step. `paths` are the checkpoint, downloaded
    elsewhere, and the PCA file unless it is in the same directory under its own name; they are
    recognised by size, checked by sha256, and not moved. None downloads both. int8 is calibrated
    on the recordings `calibration`, by default those shipped with audiotag. `force` installs again
    even if verified weights are installed.
    """
    for recording in calibration:
        if not recording.is_file():
            raise OptionError(f"no calibration recording at {recording}")
    recordings = list(calibration) or shipped_recordings()
    sources = None if paths is None else _recognise(known, paths)
    with _lock(known, report):
        if not force:
            with contextlib.suppress(WeightsError):
                installed = find_installed(known.name, verify=True)
                if installed.is_made_from(known):
                    report(f"{known.name!r} is already installed; --force installs it again")
                    return installed
        # The packages that a conversion needs: check before the download, not after.
        import_tf_keras()
        import_onnx()
        downloads = audiotag_home() / known.name / "downloads"
        _check_disk_space(known, downloads if sources is None else None)
        if sources is None:
            sources = _download(known, downloads, report, on_progress)
        result = _convert(known, sources, recordings, report)
        if paths is None:
            shutil.rmtree(downloads, ignore_errors=True)
        return result


@contextlib.contextmanager
def _lock(known: KnownWeights, report: Report) -> Iterator[None]:
    """Hold the lock of an installation, and explain errors of the file system."""
    home = audiotag_home()
    lock = filelock.FileLock(home / f"{known.name}.lock")
    try:
        home.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            report(f"another process is installing {known.name!r}; waiting for it")
            lock.acquire()
        except NotImplementedError:  # some network file systems have no locks
            pass
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise WeightsError(
            f"cannot install into {home}: {error.strerror or error}{where}.\n"
            "Free disk space, permit writing there, or set AUDIOTAG_HOME to another directory"
        ) from error


def _recognise(known: KnownWeights, paths: Sequence[Path]) -> dict[str, Path]:
    """Assign files to the keys of `known.files` by size, and check them."""
    sizes = {file.size for file in known.files.values()}
    candidates = list(paths)
    for path in paths:
        if not path.is_file():
            raise WeightsError(f"no file at {path}")
        if path.stat().st_size not in sizes:
            expected = "\n".join(f"  {f.name}: {f.size:,} bytes" for f in known.files.values())
            raise WeightsError(
                f"{path} is not a file of {known.name!r}: it has {path.stat().st_size:,} bytes.\n"
                f"Expected one of:\n{expected}"
            )
        candidates += [path.parent / file.name for file in known.files.values()]
    by_size = {path.stat().st_size: path for path in reversed(candidates) if path.is_file()}
    for file in known.files.values():
        if file.size not in by_size:
            raise WeightsError(
                f"also needed: {file.name} ({file.size:,} bytes), from {file.url}\n"
                "Put it beside the other file, or name both."
            )
        check_file(by_size[file.size], file)
    return {key: by_size[file.size] for key, file in known.files.items()}


def _download(
    known: KnownWeights, directory: Path, report: Report, on_progress: OnDownloadProgress | None
) -> dict[str, Path]:
    sources = {}
    for key, file in known.files.items():
        report(f"downloading {file.url} ({file.size:,} bytes)")
        try:
            sources[key] = download(file, directory, on_progress)
        except DownloadError as error:
            raise DownloadError(
                f"{error}\nOr download {file.name} elsewhere: audiotag weights install --help"
            ) from error
    return sources


def _convert(
    known: KnownWeights, sources: Mapping[str, Path], recordings: Sequence[Path], report: Report
) -> InstalledWeights:
    """Convert into a staging directory, move the results, and write the record last."""
    directory = audiotag_home() / known.name
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob("staging-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix="staging-", dir=directory, ignore_cleanup_errors=True
    ) as staging_name:
        staging = Path(staging_name)
        shutil.copyfile(sources["pca"], staging / CONVERTED_FILES["pca"])
        checkpoint_sha256 = known.files["checkpoint"].sha256
        pca = load_pca(staging / CONVERTED_FILES["pca"])
        inputs = (sources["checkpoint"], checkpoint_sha256, pca, recordings, known.smoke_test)
        facts = convert_checkpoint(*inputs, staging, report)
        facts["calibration"] = [recording.name for recording in recordings]
        facts["versions"] = versions = {"audiotag": VERSION}
        for package in ("tensorflow", "tf-keras", "onnx", "onnxruntime", "numpy"):
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[package] = metadata.version(package)
        facts["installed_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        files = {key: _place(staging / name, directory) for key, name in CONVERTED_FILES.items()}
        record = staging / RECORD_NAME
        content = {
            "checkpoint_sha256": checkpoint_sha256,
            "files": {key: asdict(file) for key, file in files.items()},
            "facts": facts,
        }
        record.write_text(json.dumps(content, indent=2), "utf-8")
        _flush(record)
        record.replace(directory / RECORD_NAME)
    current = {file.name for file in files.values()}
    for path in directory.iterdir():
        # Only files of earlier installations: users may keep other files here, too.
        if _INSTALLED_NAME.fullmatch(path.name) and path.name not in current:
            # Windows refuses to delete a file that another process has open.
            with contextlib.suppress(OSError):
                path.unlink()
    return find_installed(known.name)


def shipped_recordings() -> list[Path]:
    """Paths of the short recordings that are part of audiotag."""
    clips = Path(str(resources.files("weights"))) / "clips"
    return sorted(path for path in clips.iterdir() if path.suffix in AUDIO_SUFFIXES)


def _place(path: Path, directory: Path) -> InstalledFile:
    """Move a file into the directory, under a name with its checksum."""
    digest, size = sha256_of(path), path.stat().st_size
    name = f"{path.stem}-{digest[:12]}{path.suffix}"
    _flush(path)
    path.replace(directory / name)
    return InstalledFile(name, size, digest)


def _flush(path: Path) -> None:
    """Write a file to disk before its name: a power cut could otherwise leave it empty."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _check_disk_space(known: KnownWeights, downloads: Path | None) -> None:
    checkpoint = known.files["checkpoint"]
    # For the networks, and the two copies that ONNX Runtime makes to quantise one.
    needed = int(checkpoint.size * 4.5)
    if downloads is not None:
        received = [downloads / checkpoint.name, downloads / f"{checkpoint.name}.part"]
        needed += checkpoint.size - sum(path.stat().st_size for path in received if path.exists())
    free = shutil.disk_usage(audiotag_home()).free
    if free < needed:
        raise WeightsError(
            f"not enough disk space in {audiotag_home()}: {free / 2**20:,.0f} MiB are free, about "
            f"{needed / 2**20:,.0f} MiB are needed.\n"
            "Free disk space, or set AUDIOTAG_HOME to another directory"
        )
