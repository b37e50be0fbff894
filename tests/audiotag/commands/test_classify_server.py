"""audiotag classify --server: clips are sent to a service, with the outputs of a local run."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import classifier
from tests.support.bundles import make_bundle

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from tests.support.fake_service import FakeService, problem

Classify = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def _running() -> Iterator[FakeService]:
    fake = FakeService()
    yield fake
    fake.close()


@pytest.fixture
def fake(
    _running: FakeService, small_home: Path, in_directory: Path, write_sound: Any
) -> FakeService:
    """A service with the bundle tiny; a.wav (5 s), d/b.flac (2 s) and bad.wav are local files."""
    _running.reset()
    _running.tagger = classifier.Tagger(make_bundle(in_directory / "tiny"))
    assert _running.tagger.extractor  # loaded before the home directory is changed
    write_sound("cwd/a.wav", seconds=5.0, rate_hz=44_100, n_channels=2)
    write_sound("cwd/d/b.flac", seconds=2.0, seed=1)
    return _running


@pytest.fixture
def here(command_line: Any, fake: FakeService) -> Classify:
    """Run `audiotag classify` locally with the tiny bundle: status, stdout, stderr."""
    return lambda *arguments: command_line("classify", "--model", "tiny", *arguments)


@pytest.fixture
def there(command_line: Any, fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> Classify:
    """Run `audiotag classify` with the service, without any local weights."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            patch.setenv("AUDIOTAG_HOME", "nothing-here")
            return command_line("classify", "--server", fake.url, *arguments)

    return run


@pytest.mark.parametrize(
    "options",
    [
        ["a.wav"],
        ["a.wav", "d", "--top-k", "2"],
        ["a.wav", "--segments", "--threshold", "0.4"],
        ["a.wav", "d", "--csv"],
        ["a.wav", "d", "--csv", "--segments", "--labels", "bark", "--labels", "Rain"],
        ["a.wav", "--csv", "--frames", "--exclude-labels", "Rain"],
        ["a.wav", "--json"],
        ["a.wav", "d", "--json", "--frames", "--segments", "--top-k", "1"],
        ["a.wav", "--srt"],
        ["a.wav", "--audacity"],
        ["a.wav", "d", "--raven"],
        ["a.wav", "d", "--srt", "--out-dir", "t"],
    ],
    ids=" ".join,
)
def test_service_and_local_tagger_give_the_same_output(
    here: Classify, there: Classify, options: list[str]
) -> None:
    expected = here(*options)
    assert expected[0] == 0
    assert there(*options) == expected


def test_plots_are_drawn_locally_from_the_scores_of_the_service(
    here: Classify, there: Classify
) -> None:
    assert here("a.wav", "--plot", "here.svg")[0] == 0
    assert there("a.wav", "--plot", "there.svg")[0] == 0
    pictures = [Path(name).read_text() for name in ("here.svg", "there.svg")]
    # Ignore dates and random ids.
    colours = [sorted(re.findall(r"fill: #\w+", picture)) for picture in pictures]
    assert colours[0] == colours[1]
    assert len(set(colours[0])) > 3


def test_only_needed_parts_are_requested_from_the_service(
    there: Classify, fake: FakeService
) -> None:
    asked = []
    for options in (("--csv",), ("--json", "--frames"), (), ("--plot", "p.png", "--csv")):
        fake.requests.clear()
        there("d", *options)
        path = fake.requests[-1][1]
        asked.append({name for name in ("frames", "segments", "tracks") if name in path})
    assert asked == [set(), {"frames"}, {"segments"}, {"tracks"}]


def test_a_bad_file_does_not_stop_the_rest(there: Classify, fake: FakeService) -> None:
    Path("bad.wav").write_bytes(b"")
    fake.answers = [None, problem(400, "unreadable-audio", "cannot read bad.wav: no format")]
    status, out, err = there("bad.wav", "absent.wav", "d", "--json", "--top-k", "1")
    assert status == 1
    assert json.loads(out)["file"] == "d/b.flac"
    assert err.splitlines() == [
        "audiotag: error: cannot read bad.wav: no format (request id-7)",
        "audiotag: error: cannot open absent.wav: No such file or directory",
    ]


def test_unreachable_service_ends_the_run(
    there: Classify, fake: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.client.client import Client
    from vggish.errors import ServiceUnreachableError

    def gone(*_arguments: Any, **_options: Any) -> None:
        raise ServiceUnreachableError("cannot connect")

    monkeypatch.setattr(Client, "classify", gone)
    status, out, err = there("a.wav", "d")
    assert (status, out, err) == (2, "", "audiotag: error: cannot connect\n")


def test_tags_before_the_service_became_unreachable_are_kept(
    there: Classify, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.client.client import Client
    from vggish.errors import ServiceUnreachableError

    classify, n_asked = Client.classify, 0

    def gone_later(client: Client, *arguments: Any, **options: Any) -> Any:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 2:
            raise ServiceUnreachableError("cannot connect")
        return classify(client, *arguments, **options)

    for name in ("e.wav", "f.wav"):
        shutil.copy("a.wav", name)
    monkeypatch.setattr(Client, "classify", gone_later)
    status, out, err = there("a.wav", "e.wav", "f.wav", "--csv", "-o", "tags.csv")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        "audiotag: error: e.wav: cannot connect",
        "audiotag: error: 1 clip not sent",
    ]
    n_asked = 2
    assert Path("tags.csv").read_text() == there("a.wav", "--csv")[1]


def test_the_key_comes_from_the_environment_or_a_file(
    there: Classify, fake: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    there("d")
    assert "authorization" not in fake.requests[-1][2]
    monkeypatch.setenv("AUDIOTAG_API_KEY", "from-environment")
    there("d")
    assert fake.requests[-1][2]["authorization"] == "Bearer from-environment"
    Path("key").write_text("from-file\n")
    there("d", "--api-key-file", "key")
    assert fake.requests[-1][2]["authorization"] == "Bearer from-file"
    for content, message in (
        (b"two words", "Received: 2 words"),
        (b"\xff", "it is not a text file"),
    ):
        Path("key").write_bytes(content)
        status, _, err = there("d", "--api-key-file", "key")
        assert (status, message in err) == (2, True)
    status, _, err = there("d", "--api-key-file", "absent")
    assert (status, "cannot read the key in absent: No such file" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--embedder", "mini"], "the service decides on --embedder; leave it out"),
        (["--device", "cpu"], "decides on --device"),
        (["--precision", "int8"], "decides on --precision"),
        (["--force"], "decides on --force"),
        (["--live"], "--live takes no inputs"),
        (["--model", "huge"], "the service has no model 'huge'; it has 'tiny'"),
        (["--labels", "Bork"], "did you mean 'Bark'"),
    ],
)
def test_invalid_options_are_rejected_before_anything_is_sent(
    there: Classify, fake: FakeService, options: list[str], message: str
) -> None:
    status, out, err = there("a.wav", *options)
    assert (status, out) == (2, "")
    assert message in err
    assert not any(method == "POST" for method, _, _ in fake.requests)


def test_clip_level_model_has_no_times(there: Classify, fake: FakeService) -> None:
    fake.facts = {"has_frame_scores": False}
    status, _, err = there("a.wav", "--srt")
    assert (status, "scores whole clips only" in err) == (2, True)
    assert there("a.wav")[0] == 0
    assert "segments" not in fake.requests[-1][1]


def test_a_server_that_is_not_audiotag_is_reported(command_line: Any, fake: FakeService) -> None:
    fake.answers = [problem(401, "unauthorized", "this service wants a key")]
    status, _, err = command_line("classify", "a.wav", "--server", fake.url)
    first, second = err.splitlines()
    assert (status, first) == (2, "audiotag: error: this service wants a key (request id-7)")
    assert "AUDIOTAG_API_KEY" in second
    assert "--api-key-file" in second
    status, _, err = command_line("classify", "a.wav", "--server", f"{fake.url}/elsewhere")
    assert (status, "not an answer of an audiotag service" in err) == (2, True)
    status, _, err = command_line("classify", "a.wav", "--server", "tags.example")
    assert (status, "must begin with http:// or https://" in err) == (2, True)


def test_standard_input_is_sent(there: Classify, fake: FakeService, audiotag: Any) -> None:
    with open("a.wav", "rb") as stdin:
        done = audiotag("classify", "-", "--server", fake.url, "--json", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["file"], found["duration_seconds"]) == ("-", 5.0)
    assert fake.names == ["standard input"]
    assert os.path.exists("a.wav")
