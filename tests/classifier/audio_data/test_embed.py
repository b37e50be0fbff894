from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from classifier.audio_data.clip_list import ClipList, read_clip_list
from classifier.audio_data.embed import EmbedReport, embed_clips
from classifier.frame_data.clips import Clip
from tests.support.paths import ROOT
from tests.support.sounds import make_sound
from vggish import EmbedOptions, Extractor, load_embedder
from vggish.errors import AudioError, FrameFileError, OptionError


class CountingEmbedder:
    """Small network that counts the patches it has embedded."""

    def __init__(self) -> None:
        self._embedder, self.pca = load_embedder()
        self.n_patches = 0

    def __call__(self, patches: Any) -> Any:
        self.n_patches += len(patches)
        return self._embedder(patches)

    @property
    def provenance(self) -> dict[str, str]:
        return self._embedder.provenance


@pytest.fixture
def make_extractor(small_home: Path) -> Callable[..., Extractor]:
    embedder = CountingEmbedder()
    return lambda **options: Extractor(embedder, embedder.pca, EmbedOptions(**options))


@pytest.fixture
def extractor(make_extractor: Any) -> Extractor:
    made: Extractor = make_extractor()
    return made


def embedded(
    clip_list: ClipList, extractor: Extractor, **options: Any
) -> tuple[list[Clip], EmbedReport]:
    report = EmbedReport()
    return list(embed_clips(clip_list, extractor, report=report, **options)), report


def counts(report: EmbedReport) -> tuple[int, int, int]:
    return report.n_embedded, report.n_cached, len(report.bad)


# --- Embedding ---------------------------------------------------------------------------


def test_clip_frames_equal_the_frames_of_its_file(folder: Path, extractor: Extractor) -> None:
    clip_list = read_clip_list(folder)
    clips, report = embedded(clip_list, extractor, jobs=2)
    assert [clip.clip_id for clip in clips] == [sound.clip_id for sound in clip_list.clips]
    assert [clip.labels for clip in clips] == [(0,), (1,), (1,)]
    assert counts(report) == (3, 0, 0)
    assert report.n_clips == 3
    for clip, sound in zip(clips, clip_list.clips, strict=True):
        np.testing.assert_array_equal(clip.frames, extractor(sound.path).frames)
        assert (clip.frames.dtype, clip.embedder) == (np.uint8, "vggish")
        assert clip.source == str(sound.path)


def test_second_run_embeds_only_new_clips(
    folder: Path, tmp_path: Path, write_sound: Any, extractor: Any, small_home: Path
) -> None:
    first, report = embedded(read_clip_list(folder), extractor)
    n_patches = extractor.embedder.n_patches
    assert (n_patches, counts(report)) == (6, (3, 0, 0))
    assert len(list((small_home / "frames").glob("??/*.npz"))) == 3

    second, report = embedded(read_clip_list(folder), extractor)
    assert (extractor.embedder.n_patches, counts(report)) == (n_patches, (0, 3, 0))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.frames, two.frames)
        assert (one.clip_id, one.embedder) == (two.clip_id, two.embedder)

    # Move and rename files, change classes and add a file.
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    (moved / "cat").rename(moved / "lion")
    (moved / "lion" / "a.wav").rename(moved / "lion" / "roar.wav")
    write_sound("elsewhere/lion/new.wav", seconds=1.0, seed=9)
    third, report = embedded(read_clip_list(moved), extractor)
    assert counts(report) == (1, 3, 0)
    assert [clip.clip_id for clip in third][-2:] == ["lion/new.wav", "lion/roar.wav"]
    np.testing.assert_array_equal(third[-1].frames, first[0].frames)

    # A file with changed contents is embedded again.
    write_sound("elsewhere/lion/new.wav", seconds=1.0, seed=10)
    assert counts(embedded(read_clip_list(moved), extractor)[1]) == (1, 3, 0)


def test_cache_depends_on_options_and_embedder(folder: Path, make_extractor: Any) -> None:
    clip_list = read_clip_list(folder)
    embedded(clip_list, make_extractor())
    for options in ({"hop_seconds": 0.48}, {"tail": "drop"}, {"resampler": "resampy"}):
        _, report = embedded(clip_list, make_extractor(**options))
        assert counts(report) == (3, 0, 0)
    other = make_extractor()
    other.embedder = type(
        "OtherNetwork",
        (),
        {
            "__call__": lambda self, patches: np.zeros((len(patches), 128), np.float32),
            "provenance": {"name": "other", "model_sha256": "6" * 64, "provider": "CPU"},
        },
    )()
    clips, report = embedded(clip_list, other)
    assert (counts(report), {clip.embedder for clip in clips}) == ((3, 0, 0), {"other"})
    # The cache is shared between devices for the same network.
    type(other.embedder).provenance["provider"] = "CUDA"
    assert counts(embedded(clip_list, other)[1]) == (0, 3, 0)


def test_damaged_cache_entry_is_replaced(
    folder: Path, tmp_path: Path, extractor: Extractor
) -> None:
    clip_list, cache = read_clip_list(folder), tmp_path / "cache"
    first, _ = embedded(clip_list, extractor, cache=cache)
    one, two, three = sorted(cache.glob("??/*.npz"))
    whole = [path.read_bytes() for path in (one, two, three)]
    one.write_bytes(whole[0][:-40])
    changed = bytearray(whole[1])
    changed[200] ^= 0x10  # in the frames
    two.write_bytes(bytes(changed))
    three.write_bytes(whole[0])  # from another file
    second, report = embedded(clip_list, extractor, cache=cache)
    assert counts(report) == (3, 0, 0)
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before.frames, after.frames)
    assert [path.read_bytes() for path in (one, two, three)] == whole


def test_clips_embedded_before_an_interruption_are_cached(
    folder: Path, extractor: Extractor
) -> None:
    clip_list = read_clip_list(folder)
    clips = embed_clips(clip_list, extractor)
    next(clips)
    clips.close()  # type: ignore[attr-defined]

    def interrupt(report: EmbedReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(embed_clips(clip_list, extractor, on_progress=interrupt))
    _, report = embedded(clip_list, extractor)
    assert report.n_cached >= 1
    assert report.n_cached + report.n_embedded == 3


def test_threads_and_processes_share_a_cache(folder: Path, small_home: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from classifier.audio_data.embed import embed_clips\n"
        "from classifier.audio_data.clip_list import read_clip_list\n"
        "from vggish import load_extractor\n"
        "clips = list(embed_clips(read_clip_list(Path(sys.argv[1])), load_extractor(), jobs=2))\n"
        "print(*(int(clip.frames.astype(int).sum()) for clip in clips))\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = lambda _: subprocess.run(  # noqa: E731
        command, env=environment, capture_output=True, text=True, timeout=120
    )
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(run, range(3)))
    assert [each.stderr for each in done] == [""] * 3
    assert len({each.stdout for each in done}) == 1
    files = sorted(path.name for path in (small_home / "frames").rglob("*") if path.is_file())
    assert [Path(name).suffix for name in files] == [".npz"] * 3


def test_file_that_cannot_be_decoded_is_named_and_counted(
    folder: Path, extractor: Extractor
) -> None:
    (folder / "cat" / "b.wav").write_bytes(b"no sound at all")
    (folder / "dog" / "c.wav").write_bytes(b"")
    clip_list = read_clip_list(folder)
    with pytest.raises(AudioError) as error:
        embedded(clip_list, extractor)
    first, hint = str(error.value).splitlines()
    assert first.startswith(f"cannot read {folder / 'cat' / 'b.wav'}: ")
    assert hint == "To skip up to N bad clips, use --max-bad N"
    with pytest.raises(AudioError, match="cannot embed 2 clips, and at most 1 may fail") as error:
        embedded(clip_list, extractor, max_bad=1)
    assert all(f"{name}.wav" in str(error.value) for name in ("cat/b", "dog/c"))
    seen = []
    clips, report = embedded(clip_list, extractor, max_bad=2, on_progress=lambda r: seen.append(r))
    assert [clip.clip_id for clip in clips] == ["cat/a.wav", "dog/a.wav", "dog/far/b.flac"]
    assert [bad.where for bad in report.bad] == [
        str(folder / "cat" / "b.wav"),
        str(folder / "dog" / "c.wav"),
    ]
    assert "is empty: 0 bytes" in report.bad[1].reason
    assert len(seen) == 5


def test_file_that_was_deleted_counts_as_bad(folder: Path, extractor: Extractor) -> None:
    clip_list = read_clip_list(folder)
    (folder / "cat" / "a.wav").unlink()
    _, report = embedded(clip_list, extractor, max_bad=1)
    assert (
        report.bad[0].reason == f"cannot read {folder / 'cat' / 'a.wav'}: No such file or directory"
    )


def test_truncated_file_is_used_with_a_warning_each_time(
    folder: Path, extractor: Extractor
) -> None:
    path = folder / "dog" / "a.wav"
    path.write_bytes(path.read_bytes()[:-20_000])
    for _ in range(2):
        _, report = embedded(read_clip_list(folder), extractor)
        ((where, warning),) = report.warnings
        assert where == str(path)
        assert "truncated" in warning


def test_clips_too_short_for_a_frame_count_as_bad(
    table: Any, make_extractor: Any, write_sound: Any
) -> None:
    write_sound("sounds/dog/short.wav", seconds=0.5)
    path = table("path,labels,end\ndog/short.wav,dog,\ncat/a.wav,cat,0.25\ncat/a.wav,cat,\n")
    clips, report = embedded(read_clip_list(path), make_extractor(tail="drop"), max_bad=2)
    assert [clip.clip_id for clip in clips] == ["cat/a.wav"]
    assert [bad.reason for bad in report.bad] == [
        "too short for a frame: 0.5 s",
        "too short for a frame: 0.25 s",
    ]
    clips, report = embedded(read_clip_list(path), make_extractor())
    assert [len(clip.frames) for clip in clips] == [1, 1, 2]


def test_extractor_without_uint8_values_is_rejected(folder: Path, make_extractor: Any) -> None:
    with pytest.raises(OptionError, match=r"uint8 frames\. Received: values='raw'"):
        embedded(read_clip_list(folder), make_extractor(values="raw"))


def test_cache_that_cannot_be_written_is_an_error(
    folder: Path, tmp_path: Path, extractor: Extractor
) -> None:
    (tmp_path / "cache").write_text("a file where a directory should be")
    with pytest.raises(FrameFileError, match=r"cannot write .*cache.*\n.*set AUDIOTAG_HOME"):
        embedded(read_clip_list(folder), extractor, cache=tmp_path / "cache", max_bad=9)


# --- Parts of files ----------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@pytest.mark.parametrize("options", [{}, {"hop_seconds": 0.5, "tail": "drop"}])
def test_part_is_embedded_like_a_separate_file(
    tmp_path: Path, make_extractor: Any, rate_hz: int, options: dict[str, Any]
) -> None:
    # Stereo and long enough for several blocks of the decoder; parts overlap and touch.
    waveform = np.stack([make_sound(40.0, rate_hz, seed) for seed in (0, 1)], axis=1)
    soundfile.write(tmp_path / "long.flac", waveform, rate_hz)
    stored, _ = soundfile.read(tmp_path / "long.flac", dtype="int16")
    parts = [
        *((3.3, 5.0), (0.0, 2.5), (2.5, 4.0), (35.0, None), (4.9, 40.0), (12.345678, 13.4)),
        *((20.0, 20.3), (39.9, 40.2)),
    ]
    rows = [f"long.flac,a|b,{start},{'' if end is None else end}" for start, end in parts]
    (tmp_path / "files.csv").write_text("\n".join(["path,labels,start,end", *rows]))
    clip_list = read_clip_list(tmp_path / "files.csv")
    extractor = make_extractor(**options)
    clips, report = embedded(clip_list, extractor, max_bad=9)
    made = {clip.clip_id: clip.frames for clip in clips}
    for sound, (start, end) in zip(clip_list.clips, parts, strict=True):
        stop = None if end is None else round(end * rate_hz)
        cut = tmp_path / "cut.flac"
        soundfile.write(cut, stored[round(start * rate_hz) : stop], rate_hz)
        expected = extractor(cut).frames
        if len(expected):
            np.testing.assert_array_equal(made[sound.clip_id], expected)
        else:
            assert sound.clip_id not in made
    again, report = embedded(clip_list, extractor, max_bad=9)
    assert (report.n_embedded, report.n_cached) == (0, len(made))
    for clip in again:
        np.testing.assert_array_equal(clip.frames, made[clip.clip_id])


def test_parts_have_the_level_and_the_polarity_of_the_whole_file(
    tmp_path: Path, extractor: Extractor
) -> None:
    sound = make_sound(12.0)
    soundfile.write(tmp_path / "mono.wav", sound / np.abs(sound).max(), 16_000, subtype="FLOAT")
    loud = 8 * np.stack([sound, -sound], axis=1)
    soundfile.write(tmp_path / "loud.wav", loud, 16_000, subtype="FLOAT")
    rows = [
        f"{name}.wav,a|b,{start},{start + 2}" for name in ("mono", "loud") for start in (1, 7.3)
    ]
    (tmp_path / "files.csv").write_text("\n".join(["path,labels,start,end", *rows]))
    clips, report = embedded(read_clip_list(tmp_path / "files.csv"), extractor)
    for mono, other in zip(clips[:2], clips[2:], strict=True):
        # The level differs by rounding, which may change a quantised value by one.
        difference = np.abs(mono.frames.astype(int) - other.frames)
        assert difference.max() <= 1
        assert difference.mean() < 0.01
    said = " ".join(warning for _, warning in report.warnings)
    assert "samples reach" in said
    assert "channel 2 of 2 inverted" in said


def test_only_new_parts_of_a_file_are_embedded(table: Any, extractor: Any) -> None:
    text = "path,labels,start,end\ndog/a.wav,dog,0,1\ncat/a.wav,cat,,\n"
    embedded(read_clip_list(table(text)), extractor)
    n_patches = extractor.embedder.n_patches
    path = table(text + "dog/a.wav,dog,1,2\ndog/a.wav,dog,,\n")
    clips, report = embedded(read_clip_list(path), extractor)
    assert counts(report) == (2, 2, 0)
    assert extractor.embedder.n_patches == n_patches + 3
    assert [clip.clip_id for clip in clips] == [
        *("dog/a.wav@0-1", "dog/a.wav@1-2", "dog/a.wav", "cat/a.wav")
    ]


def test_part_beyond_the_end_of_the_file_counts_as_bad(table: Any, extractor: Any) -> None:
    path = table(
        "path,labels,start,end\ndog/a.wav,dog,2,3\ndog/a.wav,dog,1,1.9\ndog/a.wav,dog,60,\n"
        "dog/a.wav,dog,1,5\ncat/a.wav,cat,0.1,2.3\n"
    )
    clip_list = read_clip_list(path)
    with pytest.raises(AudioError, match=r"files\.csv, line 2: starts at 2 s, after the end"):
        embedded(clip_list, extractor)
    clips, report = embedded(clip_list, extractor, max_bad=2)
    assert [clip.clip_id for clip in clips] == [
        *("dog/a.wav@1-1.9", "dog/a.wav@1-5", "cat/a.wav@0.1-2.3")
    ]
    assert [bad.where.rsplit(", ", 1)[1] for bad in report.bad] == ["line 2", "line 4"]
    assert report.bad[1].reason.startswith("starts at 60 s, after the end of ")
    assert report.bad[1].reason.endswith("dog/a.wav (2.00 s)")
    # Small deviations at the end are common and not reported.
    ((where, warning),) = report.warnings
    assert where.endswith("line 5")
    assert warning.startswith("ends at 5 s, after the end of ")


def test_all_parts_of_a_file_that_cannot_be_decoded_count_as_bad(
    table: Any, folder: Path, extractor: Extractor
) -> None:
    path = table("path,labels,start\ndog/a.wav,dog,0.5\ndog/a.wav,dog,1\ncat/a.wav,cat,1\n")
    (folder / "dog" / "a.wav").write_bytes(b"no sound at all")
    clips, report = embedded(read_clip_list(path), extractor, max_bad=2)
    assert [clip.clip_id for clip in clips] == ["cat/a.wav@1-"]
    assert [bad.where.rsplit(", ", 1)[1] for bad in report.bad] == ["line 2", "line 3"]
    silent = folder / "dog" / "a.wav"
    soundfile.write(silent, np.zeros(0, np.float32), 16_000)
    _, report = embedded(read_clip_list(path), extractor, max_bad=2)
    assert ["holds no audio: 0 samples" in bad.reason for bad in report.bad] == [True, True]
