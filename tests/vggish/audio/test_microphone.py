"""The microphone: recorded blocks, reported losses, and errors."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.fake_sounddevice import FakeSoundDevice
from vggish.audio import microphone
from vggish.audio.microphone import Microphone
from vggish.audio.stream import load_audio
from vggish.errors import AudioError, MissingPackageError


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, write_sound: Any) -> FakeSoundDevice:
    """A sound card that records an audio file."""
    path = write_sound("heard.wav", seconds=1.0, rate_hz=16_000)
    fake = FakeSoundDevice(path)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


def heard(device: str | None = None) -> Any:
    with Microphone(device) as source:
        return list(source.blocks())


def test_recorded_blocks_are_complete_and_in_order(card: FakeSoundDevice) -> None:
    blocks = heard()
    samples = np.concatenate([block.samples for block in blocks])
    np.testing.assert_array_equal(samples[:, 0], load_audio(card.path))
    assert {block.samples.shape[1] for block in blocks} == {1}
    assert not any(block.n_lost or block.is_broken for block in blocks)
    assert card.n_open == 0


def test_a_device_is_found_by_number_or_name(card: FakeSoundDevice) -> None:
    for device, name in ((None, "Built-in"), ("2", "USB Audio"), ("usb", "USB Audio")):
        with Microphone(device) as source:
            assert (source.name, source.sample_rate_hz) == (name, 16_000)


def test_a_device_without_mono_input_records_all_channels(card: FakeSoundDevice) -> None:
    card.only_all_channels = True
    assert {block.samples.shape[1] for block in heard("usb")} == {2}


def test_a_slow_reader_gets_the_number_of_lost_samples(
    card: FakeSoundDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "MAX_WAITING_SECONDS", 0.25)
    card.ends = False
    with Microphone() as source:
        card.done.wait(10)  # 20 blocks arrived in the meantime; the queue held 5
        more = threading.Timer(0.2, card.play, [800])
        blocks = []
        for block in source.blocks():
            blocks.append(block)
            if len(blocks) == 5:
                more.start()
            if len(blocks) == 6:
                break
    more.join()
    assert [block.n_lost for block in blocks] == [0] * 5 + [15 * 800]


def test_recording_callback_never_blocks(
    card: FakeSoundDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "MAX_WAITING_SECONDS", 0.05)
    with Microphone():
        assert card.done.wait(10)
        assert card.longest_seconds < 0.5


def test_an_overflow_of_the_sound_card_is_reported(card: FakeSoundDevice) -> None:
    card.overflow_at = 3
    assert [block.is_broken for block in heard()] == [n == 3 for n in range(20)]


def test_a_device_that_stops_sending_is_an_error(
    card: FakeSoundDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(microphone, "_POLL_SECONDS", 0.1)
    card.ends = False
    started = time.monotonic()
    with pytest.raises(AudioError, match=r"no audio from Built-in for 0\.2 s"):
        heard()
    assert time.monotonic() - started < 5
    assert card.n_open == 0


@pytest.mark.parametrize("device", ["nothing", "7", "1"])
def test_the_error_for_an_unknown_device_lists_the_inputs(
    card: FakeSoundDevice, device: str
) -> None:
    with pytest.raises(AudioError) as caught:
        Microphone(device)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"cannot open the microphone '{device}': ")
    assert lines[-3:] == ["Microphones, for --live-device:", "  0  Built-in", "  2  USB Audio"]


def test_a_device_in_use_is_an_error(
    card: FakeSoundDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(**_options: Any) -> None:
        raise card.PortAudioError("Error opening InputStream: Device unavailable")

    monkeypatch.setattr(card, "InputStream", taken)
    with pytest.raises(AudioError, match=r"default microphone: .*unavailable\nMicrophones"):
        heard()


def test_device_that_fails_to_start_is_closed(card: FakeSoundDevice) -> None:
    card.cannot_start = True
    with pytest.raises(AudioError, match="unavailable"):
        heard()
    assert card.n_open == 0


def test_no_microphone_is_an_error(card: FakeSoundDevice) -> None:
    card.devices = card.devices[1:2]
    with pytest.raises(AudioError, match=r"default microphone.*\nThis machine has no microphone"):
        Microphone()


def test_the_error_for_a_missing_package_has_the_pip_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingPackageError, match=r"pip install .*'audiotag\[live\]'"):
        Microphone()


def test_the_error_for_missing_portaudio_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(MissingPackageError, match="PortAudio library not found") as caught:
        Microphone()
    assert "apt install libportaudio2" in str(caught.value)
