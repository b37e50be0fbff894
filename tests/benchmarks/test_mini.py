"""Tests of the benchmark of the built-in embedder: its computations, and errors without data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import mini
from recipes.mini.teacher import N_TEACHER_CLASSES, teacher_classes


@pytest.fixture
def embeddings(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(50, 128))


def test_equal_embeddings_have_perfect_agreement(embeddings: np.ndarray) -> None:
    found = mini.agreement_of(embeddings, embeddings)
    assert found["cosine"] == pytest.approx(1)
    assert found["R2"] == pytest.approx(1)
    assert found["cosine_quartiles"] == pytest.approx([1, 1, 1])


def test_r2_of_the_mean_is_zero(embeddings: np.ndarray) -> None:
    constant = np.broadcast_to(embeddings.mean(axis=0), embeddings.shape)
    found = mini.agreement_of(constant, embeddings)
    assert found["R2_per_dimension"] == pytest.approx(np.zeros(128), abs=1e-4)


def test_r2_is_averaged_over_the_first_dimensions(embeddings: np.ndarray) -> None:
    ours = embeddings.copy()
    ours[:, 8:] = embeddings[:, 8:].mean(axis=0)
    found = mini.agreement_of(ours, embeddings)["R2_of_first"]
    assert [found[str(n)] for n in (1, 8, 32, 128)] == pytest.approx([1, 1, 1 / 4, 1 / 16])


def test_permuted_rows_belong_to_other_clips() -> None:
    clips = np.repeat(np.arange(6), 10)
    order = mini._rows_of_other_clips(clips)
    assert sorted(order) == list(range(60))
    assert not (clips[order] == clips).any()


def test_features_are_whitened_with_training_rows_only(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(600, 150)) @ rng.normal(size=(150, 150)) + 5
    trained_on = np.arange(600) < 400
    found = mini.whitened(rows, trained_on)
    assert found.shape == (600, 128)
    assert np.cov(found[trained_on], rowvar=False) == pytest.approx(np.eye(128), abs=1e-6)
    rows[~trained_on] = 0  # has no effect on the training rows
    assert mini.whitened(rows, trained_on)[trained_on] == pytest.approx(found[trained_on])


def test_statistics_are_standardised_with_training_rows_only(rng: np.random.Generator) -> None:
    rows = rng.normal(3, 7, (100, 4))
    trained_on = np.arange(100) < 60
    found = mini.standardised(rows, trained_on)[trained_on]
    assert found.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert found.std(axis=0) == pytest.approx(np.ones(4))


def test_teacher_scores_are_averaged_over_patches() -> None:
    logits = np.full((2, N_TEACHER_CLASSES), -300, np.float16)
    logits[0, 3] = 0
    scores = mini.teacher_scores(logits)
    assert scores.shape == (527,)
    assert scores[teacher_classes()[3]] == pytest.approx(0.25)
    assert scores.sum() == pytest.approx(0.25)


def test_card_keeps_its_text_and_gets_a_new_table() -> None:
    card = f"before\n{mini.BEGIN}\nold\n{mini.END}\nafter\n"
    once = mini.with_table(card, ["| a |", "| b |"])
    assert once == f"before\n{mini.BEGIN}\n| a |\n| b |\n{mini.END}\nafter\n"
    assert mini.with_table(once, ["| a |", "| b |"]) == once


def test_card_of_mini_has_markers_for_the_table() -> None:
    text = mini.CARD.read_text("utf-8")
    assert text.count(mini.BEGIN) == text.count(mini.END) == 1


def test_missing_data_is_listed(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "index.csv").write_text("path,source,label,seconds,extra\n")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.mini", "--data", str(tmp_path)],
        cwd=mini.ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "index.csv" not in done.stderr
    for what in ("--teacher", "--frames", "--eval", "make bench-mini DATA=DIR"):
        assert what in done.stderr
