"""Named choices that options, settings and functions share; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from vggish.errors import OptionError

EmbedderName = Literal["auto", "vggish", "mini"]
EMBEDDERS: tuple[EmbedderName, ...] = get_args(EmbedderName)
Precision = Literal["float32", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Device = Literal["auto", "cpu", "gpu"]
DEVICES: tuple[Device, ...] = get_args(Device)
# uint8: quantised, as in AudioSet; pca: before quantisation; raw: the network's output.
Values = Literal["uint8", "pca", "raw"]
VALUES: tuple[Values, ...] = get_args(Values)
# pad: complete the last patch with silence; drop: omit it.
Tail = Literal["pad", "drop"]
TAILS: tuple[Tail, ...] = get_args(Tail)
ResamplerName = Literal["soxr", "resampy"]
RESAMPLERS: tuple[ResamplerName, ...] = get_args(ResamplerName)
FrameFormat = Literal["npz", "csv", "parquet", "jsonl", "tfrecord"]
FRAME_FORMATS: tuple[FrameFormat, ...] = get_args(FrameFormat)


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Raise `OptionError` unless `value` is one of `choices`."""
    if value not in choices:
        raise OptionError(f"{option} must be one of {choices}. Received: {value!r}")
