"""Frames as NPZ, for `numpy.load`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vggish.frames.clip import ClipFrames
from vggish.frames.shared_metadata import Clips, as_clips, merge_metadata, split_table
from vggish.params import EMBEDDING_SIZE


def write_npz(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    """Write clips, which are iterated three times; `np.savez` would need all frames in memory."""
    each = as_clips(clips)
    metadata, dtype = merge_metadata(each)
    names = [entry["clip"] for entry in metadata["clips"]]
    counts = [entry["n_frames"] for entry in metadata["clips"]]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        shape = (sum(counts), EMBEDDING_SIZE)
        _write_array(archive, "frames", shape, dtype, (clip.frames for clip in each))
        times = (clip.start_seconds for clip in each)
        _write_array(archive, "start_seconds", shape[:1], np.dtype(np.float64), times)
        if isinstance(clips, ClipFrames):
            arrays = {}
            metadata = {"clip": clips.clip_id, **clips.metadata}
        else:
            index = np.repeat(np.arange(len(counts)), counts)
            arrays = {"clips": np.array(names, np.str_), "clip_index": index}
        for name, array in {**arrays, "metadata": np.array(json.dumps(metadata))}.items():
            _write_array(archive, name, array.shape, array.dtype, [array])


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    parts: Iterable[npt.NDArray[Any]],
) -> None:
    """Write an array of which `parts` are the rows."""
    # A fixed date, so that equal contents give equal files.
    member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    with archive.open(member, "w", force_zip64=True) as out:
        np.lib.format.write_array_header_1_0(out, header)
        for part in parts:
            out.write(np.ascontiguousarray(part, dtype).tobytes())


def read_npz(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    """Read clips; a clip without a name gets the stem of the file's `name`."""
    with np.load(file, allow_pickle=False) as arrays:
        frames, times = arrays["frames"], arrays["start_seconds"]
        metadata = json.loads(str(arrays["metadata"]))
    if "clips" in metadata:
        yield from split_table(metadata, frames, times)
    else:
        yield ClipFrames(metadata.pop("clip", Path(name).stem), frames, times, metadata)
