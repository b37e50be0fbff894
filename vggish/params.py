"""Constants of the VGGish front end, network and quantiser, derived from each other.

Source: Google's VGGish release for AudioSet (Hershey et al., "CNN architectures for
large-scale audio classification", ICASSP 2017).
"""

from __future__ import annotations

VERSION = "0.1.0"
SAMPLE_RATE_HZ = 16_000
MIN_SOURCE_RATE_HZ = 1
MAX_SOURCE_RATE_HZ = 1_000_000

# Short-time Fourier transform: no padding, periodic Hann window, magnitude (not power).
STFT_WINDOW_SECONDS = 0.025
STFT_HOP_SECONDS = 0.010
STFT_WINDOW_SAMPLES = round(STFT_WINDOW_SECONDS * SAMPLE_RATE_HZ)
STFT_HOP_SAMPLES = round(STFT_HOP_SECONDS * SAMPLE_RATE_HZ)
FFT_LENGTH = 1 << (STFT_WINDOW_SAMPLES - 1).bit_length()
N_BINS = FFT_LENGTH // 2 + 1
N_BANDS = 64
MEL_MIN_HZ = 125.0
MEL_MAX_HZ = 7_500.0
LOG_OFFSET = 0.01

# A patch is one input of the network.
PATCH_SECONDS = 0.96
PATCH_FRAMES = round(PATCH_SECONDS / STFT_HOP_SECONDS)
PATCH_SAMPLES = (PATCH_FRAMES - 1) * STFT_HOP_SAMPLES + STFT_WINDOW_SAMPLES
# With --tail pad, a last patch with at least this much audio is padded and embedded.
MIN_TAIL_SAMPLES = round(PATCH_SECONDS / 2 * SAMPLE_RATE_HZ)
EMBEDDING_SIZE = 128
# The quantiser maps [QUANTIZE_MIN, QUANTIZE_MAX] to 0..255.
QUANTIZE_MIN = -2.0
QUANTIZE_MAX = 2.0
