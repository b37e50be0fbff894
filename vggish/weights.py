"""Weights on this machine: what is known, what is installed, and how it gets there.

    $AUDIOTAG_HOME (default ~/.cache/audiotag)
    ├── vggish.lock                          held by the process that installs
    └── vggish/
        ├── installed.json                   what is installed; written last, atomically
        ├── float32-<sha>.onnx, int8-<sha>.onnx, pca-<sha>.npz
        ├── downloads/vggish_model.ckpt.part a download under way, or what a broken one left
        └── staging-*/                       a conversion under way, or what a killed one left

Files bear the first digits of their sha256. Until `installed.json` names them they do not
count, so an interruption at any moment leaves either the old weights or the new ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from vggish.checksums import sha256_of
from vggish.decoders import AUDIO_SUFFIXES
from vggish.download import Progress, RemoteFile, check_file, download
from vggish.errors import DownloadError, OptionError, WeightsError, WeightsNotInstalledError
from vggish.mini import MINI
from vggish.params import VERSION
from vggish.postprocess import Pca, load_pca
from vggish.runtime import Device, Embedder, Precision, check_precision

INSTALLED = "installed.json"
# What a conversion makes, by the key it has in `InstalledWeights.files`.
_MADE = {"float32": "float32.onnx", "int8": "int8.onnx", "pca": "pca.npz"}
_PLACED = re.compile(r"(float32|int8|pca)-[0-9a-f]{12}\.(onnx|npz)")
_SMOKE_FIGURES = {"raw_mean", "raw_std", "frame_mean", "frame_std", "relative_tolerance"}
# Room for the networks, and for the two copies that ONNX Runtime makes to quantise one, in
# times the size of the checkpoint.
_CONVERSION_ROOM = 4.5
_VERSIONED_PACKAGES = ("tensorflow", "tf-keras", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class KnownWeights:
    """An entry of the manifest.

    Attributes:
        name: how the command line calls it.
        description, licence: for people.
        files: "checkpoint" and "pca".
        smoke_test: expected figures, see `convert.convert_checkpoint`; None if there are none.
    """

    name: str
    description: str
    licence: str
    files: Mapping[str, RemoteFile]
    smoke_test: dict[str, float] | None


@dataclass(frozen=True)
class InstalledFile:
    """A file of an installation: its name in the directory, size in bytes, sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class InstalledWeights:
    """What `installed.json` says, and where it lies.

    Attributes:
        name: "vggish".
        directory: where the files are.
        checkpoint_sha256: of the checkpoint they were made from.
        files: "float32", "int8" and "pca".
        facts: what the conversion measured, versions, and the time.
    """

    name: str
    directory: Path
    checkpoint_sha256: str
    files: Mapping[str, InstalledFile]
    facts: Mapping[str, Any]

    def is_made_from(self, known: KnownWeights) -> bool:
        """Whether these are the weights that an entry of a manifest describes."""
        ours = (self.checkpoint_sha256, self.files["pca"].sha256)
        return ours == (known.files["checkpoint"].sha256, known.files["pca"].sha256)

    def path(self, file: str) -> Path:
        """Path of "float32", "int8" or "pca"."""
        return self.directory / self.files[file].name


def audiotag_home() -> Path:
    """`$AUDIOTAG_HOME`, or `~/.cache/audiotag`."""
    configured = os.environ.get("AUDIOTAG_HOME")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "audiotag"


def known_weights(manifest: Path | None = None) -> dict[str, KnownWeights]:
    """The entries of a manifest, audiotag's own by default.

    Raises:
        WeightsError: the file is no manifest.
    """
    source = resources.files("weights") / "manifest.json" if manifest is None else manifest
    try:
        entries = json.loads(source.read_text("utf-8"))
        return {name: _known(name, entry) for name, entry in entries.items()}
    except KeyError as error:
        raise WeightsError(f"{source} is no manifest of weights: it lacks {error}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{source} is no manifest of weights: {error}") from error


def _known(name: str, entry: Mapping[str, Any]) -> KnownWeights:
    files, smoke_test = entry["files"], entry.get("smoke_test")
    if smoke_test is not None and set(smoke_test) != _SMOKE_FIGURES:
        raise ValueError(f"smoke_test of {name!r} must have {', '.join(sorted(_SMOKE_FIGURES))}")
    return KnownWeights(
        name=name,
        description=entry["description"],
        licence=entry["licence"],
        files={key: RemoteFile(**files[key]) for key in ("checkpoint", "pca")},
        smoke_test=None if smoke_test is None else {k: float(v) for k, v in smoke_test.items()},
    )


def choose_known(name: str, manifest: Path | None = None) -> KnownWeights:
    """The entry of a manifest called `name`.

    Raises:
        OptionError: there is none, or it is built in.
        WeightsError: the file is no manifest.
    """
    if name == MINI:
        raise OptionError(
            f"{MINI} is built in, so there is nothing to fetch or install: --embedder {MINI}"
        )
    known = known_weights(manifest)
    if name not in known:
        raise OptionError(f"no weights are called {name!r}; there are: {', '.join([*known, MINI])}")
    return known[name]


def find_installed(name: str = "vggish") -> InstalledWeights:
    """The installed weights called `name`; sizes are checked, checksums are not.

    Raises:
        WeightsNotInstalledError: they are not installed.
        WeightsError: they are, and a file is missing or has another size.
    """
    directory = audiotag_home() / name
    try:
        record = json.loads((directory / INSTALLED).read_text("utf-8"))
        installed = InstalledWeights(
            name=name,
            directory=directory,
            checkpoint_sha256=record["checkpoint_sha256"],
            files={key: InstalledFile(**file) for key, file in record["files"].items()},
            facts=dict(record["facts"]),
        )
        if installed.files.keys() != _MADE.keys():
            raise ValueError(f"it must name {', '.join(_MADE)}")
        if not {"int8_fidelity", "installed_at"} <= installed.facts.keys():
            raise ValueError("its facts lack int8_fidelity or installed_at")
    except FileNotFoundError as error:
        choose_known(name)  # an unknown name has another error
        raise WeightsNotInstalledError(_how_to_get(name)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{directory / INSTALLED} is damaged ({error}).\n{_how_to_repair(name)}"
        ) from error
    for key, file in installed.files.items():
        path = installed.path(key)
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            found = "is missing" if size is None else f"has {size:,} bytes, not {file.size:,}"
            raise WeightsError(
                f"the weights {name!r} are damaged: {path} {found}.\n{_how_to_repair(name)}"
            )
    return installed


def verify(name: str = "vggish") -> InstalledWeights:
    """Check every installed file of `name` against its sha256.

    Raises:
        WeightsNotInstalledError: they are not installed.
        WeightsError: a file is missing or changed.
    """
    installed = find_installed(name)
    for key, file in installed.files.items():
        path = installed.path(key)
        digest = sha256_of(path)
        if digest != file.sha256:
            raise WeightsError(
                f"the weights {name!r} are damaged: {path} has the sha256 {digest}, not "
                f"{file.sha256}.\n{_how_to_repair(name)}"
            )
    return installed


def load_embedder(
    name: str = "vggish", *, precision: Precision = "float32", device: Device = "auto"
) -> tuple[Embedder, Pca]:
    """The installed network called `name`, and the PCA of its space (mini: `embedders.load`).

    Raises:
        WeightsNotInstalledError: it is not installed; the message says how to get it.
        WeightsError: its files are damaged.
        OptionError: an unknown precision or device.
    """
    installed = find_installed(name)
    check_precision(precision)
    embedder = Embedder(
        installed.path(precision),
        name=name,
        weights_sha256=installed.checkpoint_sha256,
        model_sha256=installed.files[precision].sha256,
        precision=precision,
        device=device,
    )
    return embedder, load_pca(installed.path("pca"))


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
    from vggish.convert import convert_checkpoint

    directory = audiotag_home() / known.name
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob("staging-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix="staging-", dir=directory, ignore_cleanup_errors=True
    ) as staging_name:
        staging = Path(staging_name)
        shutil.copyfile(sources["pca"], staging / _MADE["pca"])
        facts = convert_checkpoint(
            sources["checkpoint"],
            known.files["checkpoint"].sha256,
            load_pca(staging / _MADE["pca"]),
            sounds,
            known.smoke_test,
            staging,
            report,
        )
        facts["calibration"] = [sound.name for sound in sounds]
        facts["versions"] = _versions()
        facts["installed_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        files = {key: _place(staging / name, directory) for key, name in _MADE.items()}
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
    from vggish.model import import_tf_keras
    from vggish.onnx_graph import import_onnx

    import_tf_keras()
    import_onnx()


def _versions() -> dict[str, str]:
    versions = {"audiotag": VERSION}
    for package in _VERSIONED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _how_to_repair(name: str) -> str:
    return f"Install them again: audiotag weights fetch {name}"


def _how_to_get(name: str) -> str:
    return (
        f"the weights {name!r} are not installed. Three ways to get them:\n"
        f"  audiotag weights fetch {name}             downloads 277 MiB and converts them\n"
        "  audiotag weights install vggish_model.ckpt  the same with a file fetched elsewhere\n"
        "  AUDIOTAG_HOME=/a/directory                  where they are installed already\n"
        "The first two need TensorFlow once: pip install 'audiotag[train]'"
    )
