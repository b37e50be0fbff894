"""The choice of an embedder, and the built-in embedder mini."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggish import EmbedOptions, Extractor, load_extractor, quantize, read_frames
from vggish.embedders.choice import EmbedderChoice, find_embedder, load_embedder
from vggish.embedders.install import shipped_recordings
from vggish.embedders.installed import find_installed
from vggish.embedders.manifest import find_known
from vggish.embedders.mini import find_mini, mini_directory
from vggish.errors import OptionError, WeightsError, WeightsNotInstalledError

CommandLine = Callable[..., tuple[int, str, str]]
TAKEN = "using VGGish; for the small embedder: --embedder mini"
FRESH = (
    "using the built-in embedder mini: VGGish is not installed; "
    "to install it: audiotag weights fetch vggish"
)


def edit_card(directory: Path, **changes: Any) -> None:
    path = directory / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- Choosing ----------------------------------------------------------------------------


def test_auto_chooses_mini_without_installed_weights(small_mini: Path) -> None:
    assert find_embedder() == find_embedder("auto") == EmbedderChoice("mini", "float32", FRESH)
    assert find_embedder("mini") == EmbedderChoice("mini", "float32", "")


def test_auto_chooses_vggish_if_it_is_installed(small_home: Path, small_mini: Path) -> None:
    assert find_embedder() == EmbedderChoice("vggish", "float32", TAKEN)
    assert find_embedder(precision="int8") == EmbedderChoice("vggish", "int8", TAKEN)
    assert find_embedder("vggish", "int8") == EmbedderChoice("vggish", "int8", "")
    assert find_embedder("mini") == EmbedderChoice("mini", "float32", "")


def test_vggish_needs_no_mini(small_home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("vggish.embedders.mini.mini_directory", lambda: tmp_path / "none")
    assert find_embedder().name == find_embedder("vggish").name == "vggish"


@pytest.mark.parametrize(
    ("name", "contents", "said"),
    [
        ("float32.onnx", b"x", r"are damaged: \S+float32\.onnx has 1 bytes, not [\d,]+\."),
        ("pca.npz", None, r"are damaged: \S+pca\.npz is missing\."),
        ("installed.json", b"{", r"\S+installed\.json is damaged \(.*\)\."),
    ],
)
def test_auto_reports_damaged_vggish_and_how_to_repair_it(
    name: str, contents: bytes | None, said: str, small_home: Path, small_mini: Path
) -> None:
    path = small_home / "vggish" / name
    path.unlink() if contents is None else path.write_bytes(contents)
    choice = find_embedder()
    assert choice.name == "mini"
    assert re.fullmatch(
        rf"using the built-in embedder mini: .*{said} "
        "Install them again: audiotag weights fetch vggish",
        choice.reason,
    )
    with pytest.raises(WeightsError, match="Install them again"):
        find_embedder("vggish")


def test_a_precision_that_mini_lacks_is_refused_by_name_and_reported_by_auto(
    small_mini: Path,
) -> None:
    with pytest.raises(OptionError, match=r"'float32' only\. Received: 'int8'.*VGGish has both"):
        find_embedder("mini", "int8")
    told = FRESH.replace("mini:", "mini (available only as float32):")
    assert find_embedder("auto", "int8") == EmbedderChoice("mini", "float32", told)
    edit_card(small_mini, precision="int8")
    assert (
        find_embedder("mini", "int8") == find_embedder("mini") == EmbedderChoice("mini", "int8", "")
    )
    assert find_embedder("auto", "int8").reason == find_embedder("auto").reason == FRESH
    with pytest.raises(OptionError, match=r"'int8' only\. Received: 'float32'"):
        find_embedder("mini", "float32")
    assert find_embedder("mini").load()[0].provenance["precision"] == "int8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("yamnet",), "embedder must be one of .*'mini'.* Received: 'yamnet'"),
        (("",), "Received: ''"),
        (("auto", "int4"), "precision must be one of .* Received: 'int4'"),
        (("mini", "int4"), "precision must be one of .* Received: 'int4'"),
    ],
)
def test_unknown_names_and_precisions_are_refused(
    arguments: tuple[Any, ...], message: str, small_home: Path, small_mini: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        find_embedder(*arguments)


def test_error_for_missing_vggish_says_how_to_install_it(small_mini: Path) -> None:
    for refuse in (find_embedder, load_extractor):
        with pytest.raises(WeightsNotInstalledError, match="audiotag weights install"):
            refuse("vggish")


# --- Loading -----------------------------------------------------------------------------


def test_mini_gives_whitened_embeddings_and_vggish_raw_ones(
    small_home: Path, small_mini: Path, write_sound: Any, rng: np.random.Generator
) -> None:
    mini, none = find_embedder("mini").load()
    assert none is None
    vggish, pca = find_embedder("auto").load()
    assert pca is not None
    assert (mini.name, vggish.name) == ("mini", "vggish")
    patches = rng.normal(-2.0, 2.0, size=(5, 96, 64)).astype("f")
    np.testing.assert_array_equal(vggish(patches), load_embedder()[0](patches))
    assert pca.sha256 == load_embedder()[1].sha256
    # Only the quantiser follows the network.
    extractor, path = load_extractor("mini"), write_sound("a.wav", seconds=9.0)
    np.testing.assert_array_equal(extractor.postprocess(mini(patches)), quantize(mini(patches)))
    whitened = load_extractor("mini", values="pca")(path)
    assert whitened.frames.dtype == np.float32
    np.testing.assert_array_equal(extractor(path).frames, quantize(whitened.frames))


def test_mini_has_no_pca_and_no_raw_embeddings(small_mini: Path) -> None:
    extractor = load_extractor("mini", hop_seconds=1.0)
    assert extractor.pca is None
    assert extractor.provenance["pca_sha256"] is None
    assert extractor.provenance["embedder"] == extractor.embedder.provenance
    network, _ = find_embedder("mini").load()
    with pytest.raises(OptionError, match=r"mini has no raw embeddings.*use the values pca"):
        Extractor(network, None, EmbedOptions(values="raw"))
    with pytest.raises(OptionError, match="mini has no raw embeddings"):
        load_extractor(values="raw")


# --- The built-in embedder ---------------------------------------------------------------


def test_the_card_describes_mini(small_mini: Path) -> None:
    mini = find_mini(verify=True)
    assert mini == find_mini()
    assert (mini.directory, mini.path) == (small_mini, small_mini / "mini.onnx")
    assert (mini.version, mini.precision, mini.licence) == ("7", "float32", "made-up")
    assert (mini.size, mini.n_parameters) == (mini.path.stat().st_size, 12 * 64 * 128)


def test_mini_is_in_the_weights_package() -> None:
    import weights

    assert mini_directory() == Path(str(weights.__file__)).parent / "mini"


@pytest.mark.parametrize("name", ["card.json", "mini.onnx"])
def test_a_missing_file_of_mini_is_an_error_that_names_it(small_mini: Path, name: str) -> None:
    (small_mini / name).unlink()
    for refuse in (find_mini, find_embedder, load_extractor):
        with pytest.raises(
            WeightsNotInstalledError,
            match=rf"missing: no file at {small_mini / name}\.\nReinstall audiotag, or .*fetch",
        ):
            refuse()


@pytest.mark.parametrize(
    "card",
    ["", "[]", "{}", "\x00", {"precision": "int4"}, {"size": None}, {"n_parameters": "many"}],
)
def test_a_damaged_card_is_an_error_that_names_it(small_mini: Path, card: Any) -> None:
    if isinstance(card, dict):
        edit_card(small_mini, **card)
    else:
        (small_mini / "card.json").write_text(card)
    with pytest.raises(WeightsError, match=r"card\.json is damaged \(.*\)\.\nReinstall audiotag"):
        find_embedder()


def test_a_changed_network_is_detected_by_size_or_checksum(small_mini: Path) -> None:
    path = small_mini / "mini.onnx"
    data = bytearray(path.read_bytes())
    path.write_bytes(data + b"x")
    with pytest.raises(WeightsError, match=rf"{path} has [\d,]+ bytes, not [\d,]+\.\nReinstall"):
        find_embedder()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert find_embedder().name == "mini"
    for refuse in (lambda: find_mini(verify=True), find_embedder("mini").load):
        with pytest.raises(WeightsError, match=rf"{path} has the sha256 [0-9a-f]{{64}}, not "):
            refuse()


def test_mini_cannot_be_installed(small_mini: Path) -> None:
    for refuse in (find_known, find_installed, load_embedder):
        with pytest.raises(OptionError, match="mini is built in and needs no installation"):
            refuse("mini")


class TestShipped:
    """The files in weights/mini."""

    def test_the_files_match_the_card(self, rng: np.random.Generator) -> None:
        mini = find_mini(verify=True)
        assert {path.name for path in mini.directory.iterdir()} == {
            *("README.md", "card.json", "mini.onnx"),
        }
        assert mini.licence
        network, _ = find_embedder("mini").load()
        patches = rng.normal(-2.0, 2.0, size=(33, 96, 64)).astype("f")
        embeddings = network(patches)
        assert np.isfinite(embeddings).all()
        assert len(np.unique(quantize(embeddings), axis=0)) == 33
        for i in (0, 31, 32):
            np.testing.assert_allclose(network(patches[i : i + 1])[0], embeddings[i], atol=1e-3)

    def test_a_fresh_machine_embeds_a_recording(
        self, audiotag: Callable[..., Any], in_directory: Path
    ) -> None:
        done = audiotag("embed", shipped_recordings()[0], "-o", "a.npz")
        assert done.returncode == 0, done.stderr
        assert done.stderr == f"audiotag: {FRESH}\n"
        (clip,) = read_frames("a.npz")
        assert clip.metadata["embedder"]["weights_sha256"] == find_mini(verify=True).sha256
        assert clip.frames.std() > 10


class TestCommandLine:
    """mini in `audiotag weights`."""

    def test_mini_is_listed(self, command_line: CommandLine, small_mini: Path) -> None:
        status, out, err = command_line("weights", "list")
        assert (status, err) == (0, "")
        sha256 = find_mini(verify=True).sha256
        assert out.endswith(
            "\nmini: the small embedder that comes with audiotag (made-up)\n"
            "  built in, version 7, float32, 98,304 parameters, 0.4 MiB in "
            f"{small_mini}\n  sha256 {sha256}\n"
        )
        assert out.startswith("vggish: ")
        (small_mini / "mini.onnx").write_bytes(b"short")
        status, out, _ = command_line("weights", "list")
        assert (status, "\n  the embedder mini is damaged: " in out) == (0, True)

    def test_mini_is_found_and_verified(self, command_line: CommandLine, small_mini: Path) -> None:
        assert command_line("weights", "path", "mini") == (0, f"{small_mini}\n", "")
        verified = f"mini: 1 file in {small_mini}, intact\n"
        assert command_line("weights", "verify", "mini") == (0, verified, "")
        assert command_line("weights", "verify", "mini", "-q") == (0, "", "")
        edit_card(small_mini, sha256="0" * 64)
        status, out, err = command_line("weights", "verify", "mini")
        assert (status, out) == (2, "")
        assert "mini is damaged" in err
        assert "Reinstall audiotag" in err

    @pytest.mark.parametrize(
        "arguments", ["fetch mini", "install a.ckpt --name mini", "fetch mini --force"]
    )
    def test_mini_cannot_be_fetched_or_installed(
        self, command_line: CommandLine, small_mini: Path, arguments: str
    ) -> None:
        status, out, err = command_line("weights", *arguments.split())
        assert (status, out) == (2, "")
        assert err == (
            "audiotag: error: mini is built in and needs no installation: use --embedder mini\n"
        )

    def test_the_error_for_an_unknown_name_lists_the_known_ones(
        self, command_line: CommandLine
    ) -> None:
        for action in ("fetch", "verify", "path"):
            status, _, err = command_line("weights", action, "minni")
            assert (status, "unknown weights 'minni'; known are: vggish, mini" in err) == (2, True)
