"""The page in a real browser, with a real service."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.browser import CLIPS, browser, mixture, tab
from tests.support.serving import Running, running

MICROPHONE_CLIPS = ("guitar_chord.ogg", "speech_voicemail.wav")
KEY = "secret-of-the-test"
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(
        mixture(tmp_path_factory.mktemp("microphone") / "microphone.wav", MICROPHONE_CLIPS)
    ) as found:
        yield found


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(embedder="mini", reload_seconds=0) as found:
        yield found


@pytest.fixture
def page(chromium: Any, served: Running) -> Iterator[Any]:
    with tab(chromium, served.url) as found:
        open_page(found, served.url + "/")
        yield found


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a WAV file of guitar, then speech; and other files, some of them invalid."""
    folder = tmp_path_factory.mktemp("sounds")
    mixture(folder / "mix.wav", MICROPHONE_CLIPS, 16_000)
    samples, rate = soundfile.read(folder / "mix.wav", dtype="float32")
    soundfile.write(folder / "mix.aiff", samples, rate)
    soundfile.write(folder / "silence.wav", np.zeros(2 * rate), rate)
    long = np.tile(samples, 50)[: 620 * rate]
    soundfile.write(folder / "long.wav", long, rate)
    soundfile.write(folder / "long.mp3", long, rate)
    (folder / "long.mp3").write_bytes(id3_tag(3 << 20) + (folder / "long.mp3").read_bytes())
    (folder / "notes.txt").write_text("This is not audio.\n" * 20)
    return folder


def id3_tag(n_bytes: int) -> bytes:
    """Make an ID3v2.4 tag of a given size, as with a picture; lengths have seven bits per byte."""
    length = bytes(n_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + length + bytes(n_bytes)


def open_page(page: Any, url: str) -> None:
    page.goto(url)
    page.locator(".chip").first.wait_for()


def choose(page: Any, path: Path) -> None:
    page.set_input_files("#file", path)


def asked_directly(served: Running, path: Path) -> Any:
    with path.open("rb") as file:
        return served.client.post("/classify", files={"file": file}).json()


def name_of(page: Any) -> str:
    """Wait for a result; return its title."""
    return str(page.locator("#result-title").inner_text())


def seconds_shown(page: Any) -> float:
    return float(page.get_by_role("slider").get_attribute("aria-valuenow"))


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def stub(page: Any, address: str, *answers: tuple[int, dict[str, str], Any]) -> list[Any]:
    """Answer requests in sequence in place of the service; pass on further ones."""
    waiting, asked = list(answers), []

    def answer(route: Any) -> None:
        asked.append(route.request)
        if not waiting:
            route.continue_()
            return
        status, headers, body = waiting.pop(0)
        route.fulfill(status=status, headers=headers, body=json.dumps(body))

    page.route(re.compile(address), answer)
    return asked


def problem(slug: str, status: int, detail: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    document = {"type": f"/problems/{slug}", "title": slug, "status": status, "detail": detail}
    return status, {"Content-Type": PROBLEM, **headers}, document


# --- a result ----------------------------------------------------------------------------


def test_a_file_is_tagged_and_drawn(page: Any, served: Running, sounds: Path) -> None:
    choose(page, sounds / "mix.wav")
    assert name_of(page).startswith("Music ")
    answer = asked_directly(served, sounds / "mix.wav")
    percents = [f"{round(100 * tag['score'])} %" for tag in answer["tags"] if tag["score"] >= 0.01]
    assert page.locator(".tag-label").all_inner_texts() == [
        tag["label"] for tag in answer["tags"][: len(percents)]
    ]
    assert page.locator(".tag-percent").all_inner_texts()[:3] == percents[:3]
    assert "mix.wav" in page.locator(".facts").inner_text()
    assert page.get_by_role("table").count() == 1
    # Waveform and spectrogram: canvases of these heights in pixels, with several colours.
    for height, least in ((88, 3), (112, 50)):
        page.wait_for_function(
            """([height, least]) => {
              const { shadowRoot } = document.querySelector(".wave > div");
              return [...shadowRoot.querySelectorAll("canvas")].some((canvas) => {
                const { clientHeight, width } = canvas;
                const { data } = canvas.getContext("2d").getImageData(0, 0, width, canvas.height);
                const colours = new Set(new Uint32Array(data.buffer));
                return clientHeight === height && colours.size >= least;
              });
            }""",
            arg=[height, least],
        )


def test_heat_map_is_dark_at_high_scores_and_aligned_with_the_waveform(
    page: Any, sounds: Path
) -> None:
    with page.expect_response(re.compile("/classify")) as response:
        choose(page, sounds / "mix.wav")
    name_of(page)
    tracks = response.value.json()["tracks"]
    wave = page.locator(".wave").bounding_box()
    for row in page.locator(".strip").all():
        strip = row.bounding_box()
        assert (strip["x"], strip["width"]) == (wave["x"], wave["width"])
    # Brightness of the first tag at the centre of each frame.
    times = [start + 0.48 for start in tracks["start_seconds"][:-1]]
    seconds = float(page.get_by_role("slider").get_attribute("aria-valuemax"))
    brightness = page.locator(".strip").first.evaluate(
        """(canvas, shares) => shares.map((share) => {
          const context = canvas.getContext("2d");
          const [r, g, b] = context.getImageData(share * canvas.width, 5, 1, 1).data;
          return r + g + b;
        })""",
        [time / seconds for time in times],
    )
    scores = tracks["tags"][0]["scores"][: len(times)]
    for better in range(len(times)):
        for worse in range(len(times)):
            if scores[better] > scores[worse] + 0.02:
                assert brightness[better] < brightness[worse]


def test_a_click_on_the_heat_map_seeks_and_plays(page: Any, sounds: Path) -> None:
    choose(page, sounds / "mix.wav")
    name_of(page)
    strip = page.locator(".strip").nth(1).bounding_box()
    seconds = float(page.get_by_role("slider").get_attribute("aria-valuemax"))
    page.mouse.click(strip["x"] + strip["width"] / 10, strip["y"] + 5)
    page.get_by_role("button", name="Pause").wait_for()
    assert seconds / 10 - 0.1 < seconds_shown(page) < seconds
    before = seconds_shown(page)
    page.wait_for_function(
        "(before) => +document.querySelector('.seeker').ariaValueNow > before", arg=before
    )
    press(page, "Pause")
    page.get_by_role("button", name="Play", exact=True).wait_for()


def test_the_keyboard_seeks_and_plays(page: Any, sounds: Path) -> None:
    choose(page, sounds / "mix.wav")
    name_of(page)
    slider = page.get_by_role("slider")
    slider.focus()
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "Shift+ArrowRight", "ArrowRight", "Home"):
        page.keyboard.press(key)
        seen.append(seconds_shown(page))
    assert seen == [0.96, 1.92, 0.96, 1.06, 1.92, 0.0]
    page.keyboard.press("End")
    assert seconds_shown(page) == pytest.approx(
        float(slider.get_attribute("aria-valuemax")), abs=0.1
    )
    page.keyboard.press("Home")
    assert re.match(r"0:00\.0: Music \d+ %", slider.get_attribute("aria-valuetext"))
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Pause").wait_for()
    page.keyboard.press(" ")
    page.get_by_role("button", name="Play", exact=True).wait_for()


def test_zoom_keeps_waveform_and_heat_map_aligned(page: Any, sounds: Path) -> None:
    choose(page, sounds / "mix.wav")
    name_of(page)
    narrow = page.locator(".wave").bounding_box()["width"]
    press(page, "Zoom in")
    press(page, "Zoom in")
    wave = page.locator(".wave").bounding_box()
    strip = page.locator(".strip").first.bounding_box()
    assert wave["width"] == pytest.approx(4 * narrow, rel=0.01)
    assert (strip["x"], strip["width"]) == (wave["x"], wave["width"])
    # The canvas of the waveform is drawn with a delay.
    page.wait_for_function(
        """(width) => Math.abs(document.querySelector(".wave > div").shadowRoot
          .querySelector(".wrapper").clientWidth - width) < 2""",
        arg=wave["width"],
    )
    press(page, "Zoom out")
    press(page, "Zoom out")
    assert page.locator(".wave").bounding_box()["width"] == narrow
    assert page.get_by_role("button", name="Zoom out").is_disabled()


def test_selecting_a_tag_marks_its_segments(page: Any, sounds: Path) -> None:
    choose(page, sounds / "mix.wav")
    name_of(page)
    regions = "document.querySelector('.wave > div').shadowRoot.querySelectorAll('[part~=region]')"
    row = page.locator("button.tag-name").first
    row.click()
    assert row.get_attribute("aria-pressed") == "true"
    page.wait_for_function(f"() => {regions}.length > 0")
    row.click()
    assert row.get_attribute("aria-pressed") == "false"
    page.wait_for_function(f"() => {regions}.length === 0")


def test_clicking_a_segment_in_the_table_plays_it(page: Any, sounds: Path) -> None:
    choose(page, sounds / "mix.wav")
    name_of(page)
    page.get_by_role("button", name=re.compile("Play Speech, from 0:0")).first.click()
    page.get_by_role("button", name="Pause").wait_for()
    assert seconds_shown(page) > 5


def test_the_heat_map_is_available_as_a_table(page: Any, sounds: Path) -> None:
    with page.expect_response(re.compile("/classify")) as response:
        choose(page, sounds / "mix.wav")
    name_of(page)
    tracks = response.value.json()["tracks"]
    page.get_by_text("The heat map as a table").click()
    table = page.get_by_role("table", name="Scores of the tags in each 0.96 s")
    table.wait_for()  # built when the browser reports that it was opened
    assert table.locator("tbody tr").count() == len(tracks["start_seconds"])
    heads = table.locator("thead th").all_inner_texts()
    assert heads == ["From", *(tag["label"] for tag in tracks["tags"])]


def test_an_example_is_tagged_and_attributed(page: Any) -> None:
    page.get_by_role("button", name="Electric guitar").click()
    assert name_of(page).startswith("Music ")
    facts = page.locator(".facts").inner_text()
    assert "guitar_chord.ogg" in facts
    assert "by Sub-d (CC0-1.0)" in facts
    page.get_by_role("button", name="Voicemail prompt").click()
    page.get_by_role("heading", name=re.compile("Speech")).wait_for()


def test_a_dropped_file_is_tagged(page: Any) -> None:
    data = page.evaluate_handle(
        """async () => {
          const recording = await (await fetch("examples/guitar_chord.ogg")).blob();
          const data = new DataTransfer();
          data.items.add(new File([recording], "dropped.ogg", { type: "audio/ogg" }));
          return data;
        }"""
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": data})
    assert page.locator("#drop-veil").is_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    assert name_of(page).startswith("Music ")
    assert not page.locator("#drop-veil").is_visible()


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("JSON", ".json"),
        ("CSV", ".csv"),
        ("CSV over time", ".frames.csv"),
        ("Audacity labels", ".txt"),
    ],
)
def test_downloads_match_the_response(page: Any, sounds: Path, name: str, of: str) -> None:
    with page.expect_response(re.compile("/classify")) as response:
        choose(page, sounds / "mix.wav")
    name_of(page)
    answer = response.value.json()
    with page.expect_download() as saved:
        page.locator(".download").filter(has=page.get_by_text(name, exact=True)).click()
    assert saved.value.suggested_filename == f"mix{of}"
    text = Path(saved.value.path()).read_text(encoding="utf-8")
    tags, tracks = answer["tags"], answer["tracks"]
    if of == ".json":
        assert json.loads(text) == answer
    elif of == ".csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["label"] for row in rows] == [tag["label"] for tag in tags]
        assert [float(row["score"]) for row in rows] == [tag["score"] for tag in tags]
        assert {(row["file"], len(row)) for row in rows} == {("mix.wav", 5)}
    elif of == ".frames.csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) == len(tags) * len(tracks["start_seconds"])
        first = [float(row["score"]) for row in rows if row["mid"] == tags[0]["mid"]]
        assert first == tracks["tags"][0]["scores"]
    else:
        lines = [line.split("\t") for line in text.splitlines()]
        assert sorted((float(start), float(end), label) for start, end, label in lines) == sorted(
            (s["start_seconds"], s["end_seconds"], s["label"]) for s in answer["segments"]
        )
        assert lines == sorted(lines, key=lambda line: float(line[0]))


def test_file_names_are_never_markup(page: Any, sounds: Path) -> None:
    name = "<img src=x onerror=alert(1)>.wav"
    content = (sounds / "mix.wav").read_bytes()
    page.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": content})
    name_of(page)
    assert page.locator(".file-name").inner_text() == name
    assert page.locator("#result img").count() == 0


# --- unusual audio -----------------------------------------------------------------------


def test_a_file_that_the_browser_cannot_play_is_tagged(page: Any, sounds: Path) -> None:
    choose(page, sounds / "mix.aiff")
    assert name_of(page).startswith("Music ")
    assert "cannot play" in page.locator(".wave").inner_text()
    assert not page.get_by_role("button", name="Play", exact=True).is_visible()
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    assert seconds_shown(page) == 0.96


def test_silence_is_shown_as_silence(page: Any, sounds: Path) -> None:
    choose(page, sounds / "silence.wav")
    assert name_of(page) == "Silence"
    assert page.locator(".tag-row").count() == 0


@pytest.mark.parametrize("name", ["long.wav", "long.mp3"])
def test_a_long_clip_has_a_waveform_and_no_spectrogram(page: Any, sounds: Path, name: str) -> None:
    choose(page, sounds / name)
    assert name_of(page).startswith("Music ")
    assert "No spectrogram" in page.locator(".notes").inner_text()
    assert page.locator(".wave").bounding_box()["height"] < 100
    assert page.locator(".link").count() == 30
    page.get_by_role("button", name=re.compile("Show all")).click()
    assert page.locator(".link").count() > 30
    assert page.locator(".link").nth(30).evaluate("link => link === document.activeElement")


def test_clip_level_model_has_bars_and_no_heat_map(
    page: Any, served: Running, sounds: Path
) -> None:
    answer = asked_directly(served, sounds / "mix.wav")
    response = (
        200,
        {"Content-Type": "application/json"},
        {**answer, "tracks": None, "segments": None},
    )
    stub(page, "/classify", response)
    choose(page, sounds / "mix.wav")
    name_of(page)
    assert "scores whole clips only" in page.locator(".notes").inner_text()
    assert page.locator(".tag-bar").first.is_visible()
    assert not page.locator(".strip").first.is_visible()
    assert page.locator(".download").count() == 2


# --- errors ------------------------------------------------------------------------------


def test_a_file_without_audio_shows_the_problem_and_actions(page: Any, sounds: Path) -> None:
    choose(page, sounds / "notes.txt")
    alert = page.get_by_role("alert")
    assert "The audio cannot be read" in alert.inner_text()
    assert "notes.txt" in alert.inner_text()
    with page.expect_file_chooser() as chooser:
        press(page, "Choose another file")
    chooser.value.set_files(sounds / "mix.wav")
    assert name_of(page).startswith("Music ")
    assert alert.count() == 0


def test_the_page_retries_when_the_service_is_busy(page: Any, sounds: Path) -> None:
    busy = problem("overloaded", 503, "64 requests are waiting", **{"Retry-After": "5"})
    asked = stub(page, "/classify", busy, busy)
    choose(page, sounds / "mix.wav")
    panel = page.locator(".overload")
    assert "Trying again in" in panel.inner_text()
    assert name_of(page).startswith("Music ")
    assert len(asked) == 3


def test_a_retry_can_be_started_or_cancelled(page: Any, sounds: Path) -> None:
    busy = problem("rate-limited", 429, "too many", **{"Retry-After": "600"})
    asked = stub(page, "/classify", busy, busy)
    choose(page, sounds / "mix.wav")
    counting = page.locator(".overload").get_by_text(re.compile(r"^\d{3} s"))
    counting.wait_for()
    press(page, "Try now")
    counting.wait_for()
    press(page, "Cancel")
    page.locator("body.is-empty").wait_for()
    assert len(asked) == 2


def test_an_upload_shows_its_progress_and_can_be_cancelled(page: Any, sounds: Path) -> None:
    page.route(re.compile("/classify"), lambda route: None)
    choose(page, sounds / "mix.wav")
    page.get_by_role("progressbar").wait_for()
    press(page, "Cancel")
    page.locator("body.is-empty").wait_for()
    assert page.locator("#status").inner_text() == ""
    page.unroute_all(behavior="ignoreErrors")
    choose(page, sounds / "mix.wav")
    assert name_of(page).startswith("Music ")


def test_superseded_request_shows_no_result(chromium: Any, served: Running, sounds: Path) -> None:
    with tab(chromium, served.url) as page:
        waiting: list[Any] = []
        page.route(re.compile("/models"), lambda route: waiting.append(route))
        open_page(page, served.url + "/")
        choose(page, sounds / "mix.wav")
        assert name_of(page).startswith("Music ")
        status, headers, document = problem("unauthorized", 401, "this needs an API key")
        with page.expect_response(re.compile("/models")):
            waiting[0].fulfill(status=status, headers=headers, body=json.dumps(document))
        page.wait_for_timeout(200)
        assert page.locator("#status").inner_text() == ""


def test_a_cancelled_file_is_not_sent_again_with_another_model(
    chromium: Any, served: Running, sounds: Path
) -> None:
    with tab(chromium, served.url) as page:
        (model,) = served.client.get("/models").json()["models"]
        models = [model, {**model, "name": "other", "default": False}]
        stub(page, "/models", (200, {"Content-Type": "application/json"}, {"models": models}))
        sent: list[Any] = []
        page.route(re.compile("/classify"), lambda route: sent.append(route))
        open_page(page, served.url + "/")
        choose(page, sounds / "mix.wav")
        page.get_by_role("progressbar").wait_for()
        press(page, "Cancel")
        page.get_by_label("Model").select_option("other")
        page.wait_for_timeout(200)
        assert len(sent) <= 1
        assert page.locator("#status").inner_text() == ""


def test_an_html_error_of_a_proxy_is_reported(page: Any, sounds: Path) -> None:
    page.route(re.compile("/classify"), lambda route: route.fulfill(status=502, body="<h1>Bad"))
    choose(page, sounds / "mix.wav")
    assert "status 502" in page.get_by_role("alert").inner_text()


def test_an_unreachable_service_is_reported(chromium: Any, served: Running, sounds: Path) -> None:
    with tab(chromium, served.url) as page:
        open_page(page, served.url + "/")
        page.route(re.compile("/classify"), lambda route: route.abort("connectionrefused"))
        choose(page, sounds / "mix.wav")
        assert "did not answer" in page.get_by_role("alert").inner_text()
        page.unroute_all()
        press(page, "Try again")
        assert name_of(page).startswith("Music ")


@pytest.mark.parametrize(
    ("name", "said"),
    [("NotAllowedError", "denied"), ("NotFoundError", "found"), ("NotReadableError", "used")],
)
def test_a_denied_or_missing_microphone_is_reported(page: Any, name: str, said: str) -> None:
    page.evaluate(
        """(name) => { navigator.mediaDevices.getUserMedia = () =>
          Promise.reject(new DOMException("no", name)); }""",
        name,
    )
    press(page, "Listen live")
    assert said in page.get_by_role("alert").inner_text()
    assert page.get_by_role("button", name="Try again").is_visible()


# --- the microphone ----------------------------------------------------------------------


def test_a_live_stream_shows_tags_as_they_arrive(page: Any) -> None:
    press(page, "Listen live")
    page.get_by_role("heading", name="Listening").wait_for()
    page.locator(".live-rows .tag-label").get_by_text("Music", exact=True).wait_for()
    page.wait_for_function("() => +document.querySelector('[role=meter]').ariaValueNow > -40")
    assert page.locator("#announcer").inner_text()
    press(page, "Stop")
    assert re.search("Music|Speech", name_of(page))
    assert "live.wav" in page.locator(".facts").inner_text()
    assert not page.locator("#live").is_visible()


def test_a_recording_is_tagged_and_can_be_played(page: Any) -> None:
    press(page, "Record")
    page.get_by_role("heading", name="Recording").wait_for()
    page.locator(".live .time").get_by_text(re.compile("0:(0[2-9]|[1-5])")).wait_for()
    press(page, "Stop and tag")
    name_of(page)
    assert "recording.wav" in page.locator(".facts").inner_text()
    press(page, "Play")
    page.wait_for_function("() => +document.querySelector('.seeker').ariaValueNow > 0.2")


def test_a_recording_can_be_discarded(page: Any) -> None:
    press(page, "Record")
    page.get_by_role("heading", name="Recording").wait_for()
    press(page, "Discard")
    page.locator("body.is-empty").wait_for()
    assert page.locator("#result").is_hidden()


@pytest.mark.parametrize(
    ("accident", "message"),
    [
        ("lastSocket.close()", "connection ended"),
        (
            """lastSocket.onmessage({ data: JSON.stringify({ type: "error",
              problem: { title: "The service is busy", status: 503 } }) })""",
            "The service is busy",
        ),
        ("lastTrack.dispatchEvent(new Event('ended'))", "The microphone was disconnected"),
    ],
)
def test_a_broken_live_stream_keeps_the_recording(page: Any, accident: str, message: str) -> None:
    page.add_init_script(
        """window.WebSocket = class extends WebSocket {
          constructor(...args) { super(...args); window.lastSocket = this; } };
        const devices = navigator.mediaDevices;
        const open = devices.getUserMedia.bind(devices);
        devices.getUserMedia = async (constraints) => {
          const stream = await open(constraints);
          [window.lastTrack] = stream.getAudioTracks();
          return stream;
        };"""
    )
    page.reload()
    press(page, "Listen live")
    page.locator(".live-rows .tag-label").first.wait_for()
    page.evaluate(accident)
    assert message in page.get_by_role("alert").inner_text()
    press(page, "Tag the recording")
    assert name_of(page)


# --- keys, models, proxies ---------------------------------------------------------------


def test_the_page_asks_for_a_key_and_keeps_it_for_the_tab(chromium: Any, sounds: Path) -> None:
    with (
        running(embedder="mini", api_keys=(KEY,)) as served,
        tab(chromium, served.url) as page,
    ):
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        open_page(page, served.url + "/")
        field = page.get_by_label("API key")
        field.fill("a wrong one")
        press(page, "Use this key")
        page.locator(".key").get_by_text("Not allowed").wait_for()
        field.fill(KEY)
        field.press("Enter")
        page.wait_for_function("() => document.querySelector('#status').children.length === 0")
        choose(page, sounds / "mix.wav")
        assert name_of(page).startswith("Music ")
        press(page, "Listen live")
        page.locator(".live-rows .tag-label").first.wait_for()
        press(page, "Discard")
        page.reload()
        choose(page, sounds / "mix.wav")
        assert name_of(page).startswith("Music ")
        assert not any(KEY in url for url in asked)
        assert page.evaluate("localStorage.length") == 0


def test_an_upload_continues_after_the_key_was_entered(page: Any, sounds: Path) -> None:
    asked = stub(page, "/classify", problem("unauthorized", 401, "this needs an API key"))
    choose(page, sounds / "mix.wav")
    page.get_by_label("API key").fill(KEY)
    press(page, "Use this key")
    assert name_of(page).startswith("Music ")
    assert asked[1].headers["authorization"] == f"Bearer {KEY}"


def test_one_of_several_models_can_be_chosen(chromium: Any, served: Running, sounds: Path) -> None:
    with tab(chromium, served.url) as page:
        (model,) = served.client.get("/models").json()["models"]
        other = {**model, "name": "other", "default": False}
        stub(
            page, "/models", (200, {"Content-Type": "application/json"}, {"models": [model, other]})
        )
        asked = []

        def as_default(route: Any) -> None:
            asked.append(route.request.url)
            route.continue_(url=route.request.url.replace("model=other", "model=audioset"))

        page.route(re.compile("/classify"), as_default)
        open_page(page, served.url + "/")
        choice = page.get_by_label("Model")
        assert choice.input_value() == "audioset"
        choose(page, sounds / "mix.wav")
        name_of(page)
        # The progress panel may be visible for too short a time.
        with page.expect_request(re.compile("/classify.*model=other")):
            choice.select_option("other")
        name_of(page)
        assert ["other" in url for url in asked] == [False, True]


def test_the_page_works_behind_a_proxy_with_a_path_prefix(chromium: Any, sounds: Path) -> None:
    with (
        running(embedder="mini", root_path="/sounds") as served,
        tab(chromium, served.url + "/sounds/") as page,
    ):
        open_page(page, served.url + "/sounds/")
        choose(page, sounds / "mix.wav")
        assert name_of(page).startswith("Music ")
        press(page, "Listen live")
        page.locator(".live-rows .tag-label").first.wait_for()


# --- accessibility -----------------------------------------------------------------------


def test_the_page_is_operable_by_keyboard(page: Any) -> None:
    def focused() -> str:
        return str(
            page.evaluate(
                """() => {
                  const at = document.activeElement;
                  const { outlineStyle, outlineWidth } = getComputedStyle(at);
                  const seen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
                  const name = at.getAttribute("aria-label") || at.textContent.trim();
                  return seen ? name : `${name} UNSEEN`;
                }"""
            )
        )

    walked = []
    for _ in range(5):
        page.keyboard.press("Tab")
        walked.append(focused())
    assert walked[:4] == ["audiotag, start over", "Choose a file", "Record", "Listen live"]
    assert walked[4].startswith("Electric guitar")
    page.keyboard.press("Enter")
    name_of(page)
    page.wait_for_function("() => document.activeElement.id === 'result-title'")
    walked = []
    for _ in range(20):
        page.keyboard.press("Tab")
        walked.append(focused())
    assert not [name for name in walked if name.endswith("UNSEEN")]
    assert walked[:3] == ["Play", "Zoom in", "Music88 %"]
    assert "Playback position" in walked
    assert any(name.startswith("JSON") for name in walked)


def test_every_control_has_an_accessible_name(page: Any, sounds: Path) -> None:
    def unnamed() -> list[str]:
        snapshot = page.locator("body").aria_snapshot()
        roles = "button|slider|link|combobox|textbox|meter|progressbar|table|img|region"
        return re.findall(rf"^\s*- (?:{roles})(?: \[.*\])?:?\s*$", snapshot, re.MULTILINE)

    assert unnamed() == []
    choose(page, sounds / "mix.wav")
    name_of(page)
    assert unnamed() == []
    press(page, "Listen live")
    page.locator(".live-rows .tag-label").first.wait_for()
    assert unnamed() == []
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("main").count() == 1


_CONTRASTS = """() => {
  const channel = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const parse = (text) => {
    const n = text.match(/-?[\\d.]+(e-?\\d+)?/g).map(Number);
    const rgb = text.startsWith("color(") ? n.slice(0, 3) : n.slice(0, 3).map((c) => c / 255);
    return [...rgb, n.length > 3 ? n[3] : 1];
  };
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [1, 1, 1, 1];
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest(":disabled, noscript, .unseen")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([walker.currentNode.textContent.trim(), ratio]);
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_sufficient_contrast(
    chromium: Any, served: Running, sounds: Path, scheme: str
) -> None:
    with tab(chromium, served.url, color_scheme=scheme) as page:
        open_page(page, served.url + "/")
        assert page.evaluate(_CONTRASTS) == []
        choose(page, sounds / "mix.wav")
        name_of(page)
        assert page.evaluate(_CONTRASTS) == []
        choose(page, sounds / "notes.txt")
        page.get_by_role("alert").wait_for()
        assert page.evaluate(_CONTRASTS) == []


def test_colours_follow_the_colour_scheme(page: Any, sounds: Path) -> None:
    choose(page, sounds / "mix.wav")
    name_of(page)
    corner = (
        "document.querySelector('.strip').getContext('2d').getImageData(5, 5, 1, 1).data.join()"
    )
    light = page.evaluate(corner)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"(light) => {corner} !== light", arg=light)


def test_the_page_fits_a_phone_without_horizontal_scrolling(
    chromium: Any, served: Running, sounds: Path
) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    width = "document.documentElement.scrollWidth"
    with tab(chromium, served.url, **phone) as page:
        open_page(page, served.url + "/")
        assert page.evaluate(width) == 360
        choose(page, sounds / "mix.wav")
        name_of(page)
        assert page.evaluate(width) == 360
        strip = page.locator(".strip").nth(1)
        strip.scroll_into_view_if_needed()
        box = strip.bounding_box()
        assert box["width"] > 280
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 8)
        page.get_by_role("button", name="Pause").wait_for()
        choose(page, sounds / "notes.txt")
        page.get_by_role("alert").wait_for()
        assert page.evaluate(width) == 360
        press(page, "Listen live")
        page.locator(".live-rows .tag-label").first.wait_for()
        assert page.evaluate(width) == 360


def test_reduced_motion_disables_animations(chromium: Any, served: Running) -> None:
    with tab(chromium, served.url, reduced_motion="reduce") as page:
        open_page(page, served.url + "/")
        press(page, "Listen live")
        page.locator(".live-rows .tag-label").first.wait_for()
        moving = page.evaluate(
            """() => [...document.querySelectorAll("*")].filter((element) => {
              const { animationName, transitionDuration } = getComputedStyle(element);
              return animationName !== "none" || transitionDuration !== "0s";
            }).length"""
        )
        assert moving == 0


def test_all_example_recordings_are_offered(page: Any) -> None:
    assert page.locator(".chip").count() == sum(
        path.suffix in {".ogg", ".flac", ".mp3", ".wav"} for path in CLIPS.iterdir()
    )
