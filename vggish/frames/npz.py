"""Frames as NPZ."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggish.frames.clip import ClipFrames
from vggish.frames.joint_metadata import as_clips, cut_clips, joint_metadata, split_metadata
from vggish.params import EMBEDDING_SIZE

if TYPE_CHECKING:
    from vggish.frames.joint_metadata import Clips


# --- NPZ ---------------------------------------------------------------------------------


def write_npz(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    each = as_clips(clips)
    joint, dtype = joint_metadata(each)
    names = [entry["clip"] for entry in joint["clips"]]
    counts = [entry["n_frames"] for entry in joint["clips"]]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        shape = (sum(counts), EMBEDDING_SIZE)
        _write_npy(archive, "frames", shape, dtype, (clip.frames for clip in each))
        times = (clip.start_seconds for clip in each)
        _write_npy(archive, "start_seconds", shape[:1], np.dtype(np.float64), times)
        if isinstance(clips, ClipFrames):
            joint = {"clip": clips.clip_id, **clips.metadata}
        else:
            _write_npy_whole(archive, "clips", np.array(names, np.str_))
            _write_npy_whole(archive, "clip_index", np.repeat(np.arange(len(counts)), counts))
        _write_npy_whole(archive, "metadata", np.array(json.dumps(joint)))


def _write_npy_whole(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    _write_npy(archive, name, array.shape, array.dtype, [array])


def _write_npy(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    parts: Iterable[npt.NDArray[Any]],
) -> None:
    """Write an array that comes in parts, as the member that `numpy.load` calls `name`."""
    # A fixed date, so that equal contents are equal files.
    member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    with archive.open(member, "w", force_zip64=True) as out:
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(out, header)
        for part in parts:
            out.write(np.ascontiguousarray(part, dtype).tobytes())


def read_npz(file: IO[bytes], name: str) -> Iterator[ClipFrames]:
    with np.load(file, allow_pickle=False) as arrays:
        frames, times = arrays["frames"], arrays["start_seconds"]
        metadata = json.loads(str(arrays["metadata"]))
    if "clips" in metadata:
        yield from split_metadata(metadata, cut_clips(metadata, frames, times))
    else:
        yield ClipFrames(metadata.pop("clip", Path(name).stem), frames, times, metadata)
