"""Named choices that options, settings and functions share; imports nothing heavy."""

from __future__ import annotations

from typing import Literal, get_args

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
