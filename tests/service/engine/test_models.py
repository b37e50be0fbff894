"""Models: loading, and reloading of changed files."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from classifier.bundles.files import shipped_bundles
from service.engine.models import Models
from service.problems import Problem
from service.settings.config import ServiceConfig
from vggish.errors import BundleError, OptionError
from vggish.network.runtime import PatchEmbedder


def models(*sources: str | Path, **settings: Any) -> Models:
    config = ServiceConfig(models=tuple(map(str, sources)), embedder="mini", **settings)
    return Models(config, lambda embedder: embedder)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the default bundle."""
    directory = tmp_path / "bundle"
    shutil.copytree(shipped_bundles()["audioset"], directory)
    return directory


def replace(directory: Path, source: str, **card: Any) -> None:
    """Replace a bundle by another one atomically, as an export does."""
    new = directory.with_name("new")
    shutil.copytree(shipped_bundles()[source], new)
    path = new / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **card}))
    old = directory.with_name("old")
    os.rename(directory, old)
    os.rename(new, directory)
    shutil.rmtree(old)


def test_the_first_model_is_the_default_and_all_share_an_embedder() -> None:
    wrapped: list[PatchEmbedder] = []

    def wrap(embedder: PatchEmbedder) -> PatchEmbedder:
        wrapped.append(embedder)
        return embedder

    config = ServiceConfig(models=("audioset-best", "audioset"), embedder="mini")
    found = Models(config, wrap)
    assert found.get().bundle.name == "audioset-best"
    assert found.get("audioset").bundle.name == "audioset"
    assert found.get().network is found.get("audioset").network
    assert len(wrapped) == 1
    assert [each.default for each in found.describe().models] == [True, False]


def test_an_unknown_model_is_a_problem_that_lists_the_models() -> None:
    with pytest.raises(Problem, match="audioset") as caught:
        models("audioset").get("nobody")
    assert caught.value.slug == "unknown-model"


def test_duplicate_model_names_are_refused(bundle: Path) -> None:
    with pytest.raises(OptionError, match="unique name"):
        models("audioset", bundle)


def test_a_missing_bundle_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        models(tmp_path / "nowhere")


def test_a_changed_bundle_is_reloaded_and_the_old_model_still_works(bundle: Path) -> None:
    found = models(bundle)
    before = found.get()
    assert found.reload_changed() == {}
    replace(bundle, "audioset-best", name="audioset", embedders=["vggish", "mini"])
    assert found.reload_changed() == {"audioset": None}
    after = found.get()
    assert after is not before
    assert after.bundle.sha256 != before.bundle.sha256
    assert after.network is before.network
    frames = np.zeros((3, 128), np.uint8)
    for model in (before, after):
        assert len(model.tagger.tag_frames(frames, embedder="mini").tags) == 10
    assert found.reload_changed() == {}


@pytest.mark.parametrize("damage", ["head", "card", "labels", "gone", "name"])
def test_a_corrupted_bundle_keeps_the_loaded_model(bundle: Path, damage: str) -> None:
    found = models(bundle)
    before = found.get()
    if damage == "gone":
        shutil.rmtree(bundle)
    elif damage == "name":
        replace(bundle, "audioset-best", embedders=["vggish", "mini"])
    else:
        file = bundle / {"head": "head.onnx", "card": "bundle.json", "labels": "labels.csv"}[damage]
        file.write_bytes(file.read_bytes()[:-100])
    (error,) = found.reload_changed().values()
    assert error is not None
    assert found.get() is before
    # It is reported once, and retried on request or when the files change again.
    assert found.reload_changed() == {}
    assert list(found.reload_changed(retry=True)) == ["audioset"]
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(shipped_bundles()["audioset"], bundle)
    assert found.reload_changed() == {"audioset": None}
    assert found.get() is not before


def test_an_unexpected_error_keeps_the_loaded_model(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = models(bundle)
    before = found.get()
    replace(bundle, "audioset")
    fault = RuntimeError("the runtime has no memory")
    with monkeypatch.context() as patch:
        patch.setattr("service.engine.models.Tagger", Mock(side_effect=fault))
        assert found.reload_changed() == {"audioset": fault}
    assert found.get() is before
    assert found.reload_changed() == {}


def test_a_changed_symlink_reloads_the_bundle(bundle: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    shutil.copytree(bundle, second)
    link = tmp_path / "current"
    link.symlink_to(bundle)
    found = models(link)
    link.unlink()
    link.symlink_to(second)
    assert found.reload_changed() == {"audioset": None}


def test_models_are_usable_during_a_reload(bundle: Path) -> None:
    found = models(bundle)
    stop, errors = threading.Event(), []
    frames = np.zeros((2, 128), np.uint8)

    def use() -> None:
        while not stop.is_set():
            try:
                found.get("audioset").tagger.tag_frames(frames, embedder="mini")
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    for _ in range(3):
        replace(bundle, "audioset")
        assert found.reload_changed() == {"audioset": None}
    stop.set()
    thread.join()
    assert errors == []
