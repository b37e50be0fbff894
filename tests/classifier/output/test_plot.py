from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from classifier import Tagger
from classifier.output.plot import plot_tags
from tests.support.bundles import NAMES, make_bundle
from vggish.errors import OptionError


def tagged(tmp_path: Path, n_frames: int, **choice: Any) -> Any:
    frames = np.random.default_rng(0).integers(0, 256, (n_frames, 128), np.uint8)
    return Tagger(make_bundle(tmp_path / "tiny")).tag_frames(frames, **choice)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are saved."""
    figures: list[Figure] = []
    savefig = Figure.savefig

    def keep(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


@pytest.mark.parametrize("seconds", [0.0005, 0.5, 2.0, 61.0])
def test_tags_are_labelled_with_their_scores_best_on_top(
    tmp_path: Path, drawn: list[Figure], seconds: float
) -> None:
    waveform = np.zeros(int(16_000 * seconds), np.float32)
    tags = tagged(tmp_path, max(1, round(seconds / 0.96)), top_k=3)
    plot_tags(waveform, tags, tmp_path / "p.png", title="clip.wav")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    wave, _, scores = drawn[0].axes[:3]
    names = [label.get_text() for label in scores.get_yticklabels()]
    assert names == [f"{tag.label}  {tag.score:.0%}" for tag in tags.tags]
    assert scores.yaxis_inverted()
    assert {tag.label for tag in tags.tags} <= set(NAMES)
    assert wave.get_title(loc="left") == "clip.wav"


def test_dollar_signs_in_labels_are_not_parsed_as_math(tmp_path: Path, drawn: list[Figure]) -> None:
    names = tuple(f"$x^{{${name}" for name in NAMES)
    bundle = make_bundle(tmp_path / "tiny", names=names)
    tags = Tagger(bundle).tag_frames(np.zeros((1, 128), np.uint8), top_k=1)
    plot_tags(np.zeros(16_000, np.float32), tags, tmp_path / "p.png", title="a$x^{$b.wav")
    wave, _, scores = drawn[0].axes[:3]
    assert wave.get_title(loc="left") == "a$x^{$b.wav"
    assert scores.get_yticklabels()[0].get_text().startswith("$x^{$")


def test_characters_missing_in_the_font_raise_no_warnings(tmp_path: Path) -> None:
    tags = tagged(tmp_path, 1)
    plot_tags(np.zeros(16_000, np.float32), tags, tmp_path / "p.png", title="\u97f3 \U0001f3b8.wav")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_heat_map_shows_frame_scores(tmp_path: Path, drawn: list[Figure]) -> None:
    tags = tagged(tmp_path, 4, top_k=2)
    plot_tags(np.zeros(4 * 15_360, np.float32), tags, tmp_path / "p.svg")
    mesh = drawn[0].axes[2].collections[0]
    expected = tags.frame_scores[:, [tag.index for tag in tags.tags]].T
    np.testing.assert_array_equal(mesh.get_array().reshape(expected.shape), expected)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0.0, 1.0)


def test_clip_without_tags_or_frame_scores_is_plotted(tmp_path: Path) -> None:
    waveform = np.ones(16_000, np.float32)
    plot_tags(waveform, tagged(tmp_path, 1, threshold=1.0), tmp_path / "none.pdf")
    assert (tmp_path / "none.pdf").read_bytes().startswith(b"%PDF")


def test_unknown_suffix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"\.png"):
        plot_tags(np.zeros(16_000), tagged(tmp_path, 1), tmp_path / "p.txt")
