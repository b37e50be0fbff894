"""Taggers in other processes: they are pickled as what they were loaded from."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.bundles.bundle import load
from classifier.tagger import Tagger
from tests.support.bundles import make_bundle
from tests.support.sounds import make_sound
from vggish.api import load_extractor
from vggish.errors import BundleError, OptionError, WeightsError
from vggish.extractor import Extractor

SOUND = make_sound(3.0)


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.load("audioset", embedder="mini", device="cpu")


def test_tagger_works_in_a_spawned_process(tagger: Tagger) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        results = [pool.submit(tagger.tag, SOUND, sample_rate=16_000) for _ in range(2)]
        tags = [result.result(timeout=120) for result in results]
    assert tags[0] == tags[1] == tagger.tag(SOUND, sample_rate=16_000)


def test_pickle_is_small_and_loads_the_same(tagger: Tagger) -> None:
    data = pickle.dumps(tagger)
    assert len(data) < 10_000
    loaded = pickle.loads(data)
    expected = tagger.tag(SOUND, sample_rate=16_000)
    assert loaded.tag(SOUND, sample_rate=16_000) == expected
    assert loaded.extractor.provenance == tagger.extractor.provenance
    assert pickle.loads(data).bundle is loaded.bundle  # loaded once for each process
    for copied in (copy.copy(tagger), copy.deepcopy(tagger), pickle.loads(pickle.dumps(loaded))):
        assert copied.tag(SOUND, sample_rate=16_000) == expected


def test_results_can_be_pickled(tagger: Tagger) -> None:
    tags = tagger.tag(SOUND, sample_rate=16_000)
    loaded = pickle.loads(pickle.dumps(tags))
    assert loaded == tags
    np.testing.assert_array_equal(loaded.scores, tags.scores)


def test_tagger_without_an_extractor_stays_without_one() -> None:
    loaded = pickle.loads(pickle.dumps(Tagger(load("audioset"))))
    assert loaded._extractor is None


def test_forced_embedder_stays_forced(tmp_path: Path) -> None:
    extractor = load_extractor("mini", device="cpu")
    bundle = make_bundle(tmp_path / "bundle", embedders=["vggish"])
    with pytest.raises(BundleError):
        Tagger(bundle, extractor)
    loaded = pickle.loads(pickle.dumps(Tagger(bundle, extractor, force=True)))
    assert loaded.tag(SOUND, sample_rate=16_000).tags


def test_bundle_of_a_relative_path_loads_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    bundle = load("bundle")
    monkeypatch.chdir(os.sep)
    assert pickle.loads(pickle.dumps(bundle)).sha256 == bundle.sha256


def test_bundle_that_changed_or_went_is_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    data = pickle.dumps(bundle)
    card = tmp_path / "bundle" / "bundle.json"
    card.write_text(card.read_text().replace(bundle.name, "another"))
    with pytest.raises(BundleError, match=r"has changed since it was pickled; load it again"):
        pickle.loads(data)
    shutil.rmtree(tmp_path / "bundle")
    with pytest.raises(BundleError):
        pickle.loads(data)


def test_network_that_changed_or_went_is_refused(tmp_path: Path) -> None:
    embedder: Any = load_extractor("mini", device="cpu").embedder
    path = tmp_path / "network.onnx"
    shutil.copy(embedder._path, path)
    moved = type(embedder)(path, name="mini", weights_sha256="", device="cpu")
    data = pickle.dumps(moved)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="has changed since it was pickled"):
        pickle.loads(data)
    path.unlink()
    with pytest.raises(WeightsError, match="Install the weights on this machine too"):
        pickle.loads(data)


def test_embedder_that_cannot_be_pickled_says_what_to_do() -> None:
    class Embedder:
        provenance = {"name": "own"}  # noqa: RUF012

        def __call__(self, patches: Any) -> Any:
            return np.zeros((len(patches), 128), np.float32)

    with pytest.raises(OptionError, match="make an extractor in each process"):
        pickle.dumps(Extractor(Embedder(), None))
