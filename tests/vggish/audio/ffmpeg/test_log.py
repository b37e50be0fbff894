"""What ffmpeg's log says about a file."""

from __future__ import annotations

import pytest

from vggish.audio.ffmpeg.log import first_error, read_info

LOG = """\
[info] Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'file:/a/b.mp4':
[info]   Metadata:
[info]     title           : Stream #0:7: Audio: pcm_f32le, 1 Hz (default)
[info]                     : [info]   Duration: 99:00:00.00, start: 7.000000
[info]   Duration: 01:02:03.50, start: 1.500000, bitrate: 73 kb/s
[info]   Stream #0:0[0x1](und): Video: h264 (High), yuv420p, 64x48 (default)
[info]   Stream #0:1[0x2](eng): Audio: aac (LC) (mp4a / 0x6134706D), 48000 Hz, mono, fltp (default)
[info]   Stream #0:2[0x3](und): Audio: pcm_f32le (fl32 / 0x32336C66), 48000 Hz, mono, flt
[info] Output #0, matroska, to 'pipe:1':
[info]   Stream #0:0: Audio: pcm_f32le, 48000 Hz, mono, flt (default)
"""


def test_streams_and_times_are_read() -> None:
    info = read_info(LOG)
    assert [(t.is_default, t.is_float_pcm) for t in info.tracks] == [(True, False), (False, True)]
    assert (info.has_video, info.duration_seconds, info.origin_seconds) == (True, 3723.5, 0.0)


@pytest.mark.parametrize(
    ("container", "duration", "origin"),
    [
        ("mpegts", "00:01:00.00", 1.5),
        ("flv,live_flv", "00:01:00.00", 1.5),
        ("matroska,webm", "00:01:00.00", 0.0),
        ("matroska,webm", "N/A", 1.5),
        ("matroska,webm", "00:00:01.00", 1.5),
    ],
)
def test_origin_is_where_players_begin(container: str, duration: str, origin: float) -> None:
    log = LOG.replace("mov,mp4,m4a,3gp,3g2,mj2", container).replace("01:02:03.50", duration)
    assert read_info(log).origin_seconds == origin


def test_estimated_duration_is_unknown() -> None:
    warning = "[aac @ 0x5] [warning] Estimating duration from bitrate, this may be inaccurate\n"
    assert read_info(warning + LOG).duration_seconds is None


def test_cover_picture_is_not_a_video() -> None:
    log = LOG.replace("64x48 (default)", "64x48 (attached pic)")
    assert not read_info(log).has_video


def test_first_error_about_audio_is_found() -> None:
    log = LOG + (
        "[h264 @ 0x1] [error] codec is not on whitelist\n"
        "[warning] Guessed Channel Layout\n"
        "[aist#0:1/aac @ 0x1] [dec:aac @ 0x2] [error] file:/a/b.mp4: Invalid data found\n"
    )
    assert first_error(log, "file:/a/b.mp4") == "Invalid data found"
    assert first_error(LOG, "file:/a/b.mp4") == ""
