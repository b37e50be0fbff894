from __future__ import annotations

import ast
import importlib
import inspect
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import audiotag
import classifier
import service
import vggish
from vggish.errors import AudioError, OptionError, WeightsNotInstalledError

PACKAGES = (audiotag, classifier, service, vggish)


@pytest.mark.parametrize(
    ("package", "name"),
    [(package, name) for package in PACKAGES for name in package.__all__],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_public_name_exists_and_is_documented(package: Any, name: str) -> None:
    value = getattr(package, name)
    module = importlib.import_module(value.__module__)
    assert getattr(module, name) is value
    assert len(inspect.getdoc(value) or "") > 20
    assert "no docstring" not in (value.__doc__ or "")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_type_checkers_see_the_names_available_at_run_time(package: Any) -> None:
    """Imports under `TYPE_CHECKING` match the names passed to `lazy_attributes`."""
    (block,) = (n for n in ast.parse(inspect.getsource(package)).body if isinstance(n, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    names = {alias.asname: node.module for node in imports for alias in node.names}
    assert sorted(filter(None, names)) == package.__all__
    for name, module in names.items():
        assert getattr(importlib.import_module(str(module)), str(name)) is getattr(
            package, str(name)
        )


def test_dir_is_complete_and_unknown_names_are_refused() -> None:
    assert dir(vggish) == sorted(vggish.__all__)
    assert vggish.__version__ == vggish.params.VERSION
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vggish.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec("from vggish import nothing")


@pytest.mark.parametrize("statement", ["import vggish", "import cli; cli.build_parser()"])
def test_import_loads_no_heavy_package(statement: str) -> None:
    program = f"import sys; {statement}; print(*(m for m in sys.modules if '.' not in m))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "vggish" in loaded
    assert not loaded & {"numpy", "onnxruntime", "soundfile", "soxr", "google", "rich", "httpx"}


def test_embed_and_the_extractor_agree(small_home: Path, write_sound: Any) -> None:
    path = write_sound("clip.wav", seconds=3.0)
    clip = vggish.embed(path)
    assert (clip.clip_id, clip.frames.shape, clip.frames.dtype) == ("clip", (3, 128), np.uint8)
    np.testing.assert_array_equal(vggish.load_extractor()(path).frames, clip.frames)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(vggish.embed(file).frames, clip.frames)
    np.testing.assert_array_equal(vggish.embed(path.read_bytes()).frames, clip.frames)
    raw = vggish.embed(path, values="raw", hop_seconds=0.5, tail="drop")
    assert (raw.frames.shape, raw.frames.dtype) == ((5, 128), np.float32)
    vggish.write_frames(path.with_suffix(".npz"), clip)
    (read,) = vggish.read_frames(path.with_suffix(".npz"))
    np.testing.assert_array_equal(read.frames, clip.frames)


def test_frames_are_converted_between_formats(small_home: Path, write_sound: Any) -> None:
    path = write_sound("clip.wav")
    vggish.write_frames(path.with_suffix(".jsonl"), [vggish.embed(path)] * 2)
    vggish.write_frames(path.with_suffix(".npz"), vggish.read_frames(path.with_suffix(".jsonl")))
    assert [clip.clip_id for clip in vggish.read_frames(path.with_suffix(".npz"))] == ["clip"] * 2


def test_errors_belong_to_the_exception_tree(small_home: Path) -> None:
    with pytest.raises(AudioError, match="No such file"):
        vggish.embed("missing.wav")
    with pytest.raises(AudioError, match="audio bytes"):
        vggish.embed(io.BytesIO(b"no sound"))
    with pytest.raises(OptionError, match="Received: 'int4'"):
        vggish.load_extractor(precision="int4")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="Received: 'yamnet'"):
        vggish.load_extractor("yamnet")  # type: ignore[arg-type]


def test_built_in_embedder_is_the_default_without_installed_weights(
    small_mini: Path, write_sound: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_sound("clip.wav", seconds=3.0)
    clip = vggish.embed(path)
    assert clip.metadata["embedder"]["name"] == "mini"
    assert (clip.frames.shape, clip.frames.dtype) == ((3, 128), np.uint8)
    np.testing.assert_array_equal(vggish.load_extractor("mini")(path).frames, clip.frames)
    assert capfd.readouterr() == ("", "")


def test_the_embedder_does_not_change_from_clip_to_clip(
    small_mini: Path, write_sound: Any, request: pytest.FixtureRequest
) -> None:
    path = write_sound("clip.wav")
    before = vggish.embed(path)
    request.getfixturevalue("small_home")  # installs VGGish
    assert vggish.embed(path).metadata["embedder"] == before.metadata["embedder"]
    assert vggish.embed(path, embedder="vggish").metadata["embedder"]["name"] == "vggish"
    assert vggish.load_extractor().embedder.provenance["name"] == "vggish"


def test_without_weights_the_error_says_how_to_get_them() -> None:
    with pytest.raises(WeightsNotInstalledError, match="weights fetch") as caught:
        vggish.load_extractor("vggish")
    assert "weights install" in str(caught.value)
    assert "AUDIOTAG_HOME" in str(caught.value)
