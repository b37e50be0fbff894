"""The routes of the HTTP API, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from classifier.tagger import Tagger
from service.engine.storage import SPOOL_BYTES, Upload
from service.problems import PROBLEMS, Problem
from tests.support.paths import CLIPS, ROOT
from tests.support.serving import TIMEOUT_SECONDS, Running, running, wait_until
from tests.support.sounds import make_sound
from vggish import load_extractor, read_frames


def sound_bytes(seconds: float = 2.0, rate_hz: int = 16_000, file_format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, make_sound(seconds, rate_hz), rate_hz, format=file_format)
    return file.getvalue()


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.load(embedder="mini")


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(embedder="mini", max_audio_seconds=60.0, max_upload_bytes=8 << 20) as found:
        yield found


@pytest.fixture
def client(served: Running) -> httpx.Client:
    return served.client


def classify(client: httpx.Client, data: bytes, name: str = "a.wav", **options: Any) -> Any:
    answer = client.post("/classify", files={"file": (name, data)}, params=options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Check and return the problem document of a response."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status == PROBLEMS[slug].status
    assert document["instance"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return document


def test_tags_equal_those_of_the_tagger(client: httpx.Client, tagger: Tagger) -> None:
    path = CLIPS / "crossing_bell.flac"
    found = classify(client, path.read_bytes(), path.name)
    expected = tagger.tag(path)
    assert found["tags"] == [tag.as_json() for tag in expected.tags]
    assert found["file"] == "crossing_bell.flac"
    assert found["duration_seconds"] == expected.duration_seconds
    assert found["model"] == expected.model
    assert found["embedder"] == expected.embedder
    assert found["frames"] is found["segments"] is found["tracks"] is None
    assert set(found["timings"]) == {
        *("upload", "queue", "decode", "front_end", "embed", "head", "total"),
    }
    assert all(seconds >= 0 for seconds in found["timings"].values())


@pytest.mark.parametrize(
    "path", [*sorted(CLIPS.glob("*.[wfo]*")), CLIPS / "drum_roll.mp3"], ids=lambda path: path.name
)
def test_all_formats_are_accepted_as_form_and_as_body(client: httpx.Client, path: Path) -> None:
    in_form = classify(client, path.read_bytes(), path.name)
    raw = client.post(
        "/classify", content=path.read_bytes(), headers={"content-type": "audio/whatever"}
    )
    assert raw.json()["tags"] == in_form["tags"]
    assert raw.json()["file"] is None


def test_frames_segments_and_tracks_are_returned_on_request(
    client: httpx.Client, tagger: Tagger
) -> None:
    path = CLIPS / "speech_voicemail.wav"
    found = classify(client, path.read_bytes(), frames=True, segments=True, tracks=True, top_k=3)
    expected = tagger.tag(path, top_k=3)
    assert expected.frames is not None
    assert expected.segments is not None
    assert expected.frame_scores is not None
    assert found["frames"] == [frame.as_json() for frame in expected.frames]
    assert found["segments"] == [segment.as_json() for segment in expected.segments]
    tracks = found["tracks"]
    assert tracks["start_seconds"] == expected.start_seconds.tolist()
    assert [track["label"] for track in tracks["tags"]] == [tag.label for tag in expected.tags]
    for track in tracks["tags"]:
        np.testing.assert_allclose(
            track["scores"], expected.frame_scores[:, track["index"]], atol=1e-6
        )


def test_form_options_equal_query_options(client: httpx.Client) -> None:
    data = sound_bytes()
    in_query = classify(client, data, top_k=3, labels=["Speech", "Music"], segments="true")
    in_form = client.post(
        "/classify",
        files={"file": ("a.wav", data)},
        data={"top_k": "3", "labels": ["Speech", "Music"], "segments": "true"},
    ).json()
    assert in_form["tags"] == in_query["tags"]
    assert in_form["segments"] == in_query["segments"]
    assert {tag["label"] for tag in in_form["tags"]} == {"Speech", "Music"}


def test_labels_can_be_selected_by_id_and_excluded(client: httpx.Client) -> None:
    data = sound_bytes()
    best = classify(client, data)["tags"]
    without = classify(client, data, exclude_labels=[best[0]["mid"], best[1]["label"]])["tags"]
    assert without[: len(best) - 2] == best[2:]


def test_paths_are_available_under_v1(client: httpx.Client) -> None:
    for path in ("/models", "/labels", "/version"):
        assert client.get(f"/v1{path}").json() == client.get(path).json()
    answer = client.post("/v1/classify", files={"file": ("a.wav", sound_bytes())})
    assert answer.status_code == 200


def test_models_and_labels_are_listed(client: httpx.Client, tagger: Tagger) -> None:
    (model,) = client.get("/models").json()["models"]
    assert model["name"] == "audioset"
    assert model["default"] is True
    assert model["n_classes"] == 527
    labels = client.get("/labels", params={"model": "audioset"}).json()["labels"]
    assert [label["label"] for label in labels] == list(tagger.bundle.labels.names)
    assert [label["index"] for label in labels] == list(range(527))


def test_a_batch_has_a_result_for_each_file(client: httpx.Client) -> None:
    good = (CLIPS / "sheep_bleat.ogg").read_bytes()
    files = [
        ("files", ("good.ogg", good)),
        ("files", ("bad.wav", b"not a sound")),
        ("files", ("again.ogg", good)),
        ("file", ("empty.wav", b"")),
    ]
    answer = client.post("/classify/batch", files=files, params={"top_k": 2})
    assert answer.status_code == 200
    first, bad, second, empty = answer.json()["results"]
    assert first["tags"] == second["tags"] == classify(client, good, top_k=2)["tags"]
    assert (first["file"], second["file"]) == ("good.ogg", "again.ogg")
    assert bad["file"] == "bad.wav"
    assert bad["problem"]["type"] == "/problems/unreadable-audio"
    assert empty["problem"]["type"] == "/problems/empty-audio"
    assert bad["problem"]["instance"] == answer.json()["request_id"]


@pytest.mark.parametrize(
    ("accept", "file_format"),
    [("application/x-npz", "npz"), ("application/x-tfrecord", "tfrecord")],
)
def test_accept_selects_the_format_of_frames(
    client: httpx.Client, tmp_path: Path, accept: str, file_format: str
) -> None:
    path = CLIPS / "horse_neigh.ogg"
    expected = load_extractor("mini")(path)
    answer = client.post(
        "/embed", files={"file": (path.name, path.read_bytes())}, headers={"accept": accept}
    )
    assert answer.headers["content-type"] == accept
    written = tmp_path / f"frames.{file_format}"
    written.write_bytes(answer.content)
    (clip,) = read_frames(written)
    np.testing.assert_array_equal(clip.frames, expected.frames)
    assert clip.clip_id == "horse_neigh"


def test_frames_are_json_by_default(client: httpx.Client) -> None:
    path = CLIPS / "horse_neigh.ogg"
    expected = load_extractor("mini", values="pca", hop_seconds=0.48)(path)
    answer = client.post(
        "/embed",
        files={"file": (path.name, path.read_bytes())},
        params={"values": "pca", "hop_seconds": 0.48},
    )
    found = answer.json()
    np.testing.assert_allclose(found["frames"], expected.frames, rtol=1e-4, atol=1e-5)
    assert found["start_seconds"] == expected.start_seconds.tolist()
    assert found["metadata"]["embedder"]["name"] == "mini"


def test_an_unavailable_format_gives_406(client: httpx.Client) -> None:
    files = {"file": ("a.wav", sound_bytes())}
    answer = client.post("/embed", files=files, headers={"accept": "text/html, image/*;q=0.5"})
    problem(answer, 406, "not-acceptable")
    answer = client.post(
        "/embed", files=files, headers={"accept": "application/json;q=0.2, application/x-npz"}
    )
    assert answer.headers["content-type"] == "application/x-npz"


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        (b"", "empty-audio"),
        (b"not audio at all", "unreadable-audio"),
        (sound_bytes()[:20], "unreadable-audio"),
        (sound_bytes(seconds=0), "empty-audio"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt " + b"\xff" * 100, "unreadable-audio"),
    ],
    ids=["no bytes", "text", "half a header", "no samples", "nonsense"],
)
def test_a_body_without_audio_is_refused(client: httpx.Client, data: bytes, slug: str) -> None:
    answer = client.post("/classify", files={"file": ("a.wav", data)})
    detail = problem(answer, 400, slug)["detail"]
    assert "a.wav" in detail
    assert "/tmp" not in detail


def test_a_single_sample_is_tagged(client: httpx.Client) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.array([0.5]), 16_000, format="WAV")
    assert len(classify(client, file.getvalue())["tags"]) == 10


def test_a_truncated_file_is_tagged_up_to_its_end(client: httpx.Client) -> None:
    data = sound_bytes(seconds=4)
    found = classify(client, data[: len(data) // 2])
    assert found["duration_seconds"] == pytest.approx(2, abs=0.1)
    assert any("truncated" in warning for warning in found["warnings"])


def test_the_format_is_detected_from_the_content(client: httpx.Client) -> None:
    found = classify(client, sound_bytes(file_format="FLAC"), "song.mp3")
    assert found["tags"] == classify(client, sound_bytes(file_format="FLAC"), "song.flac")["tags"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k must be greater than or equal to 1. Received: '0'"),
        ({"top_k": "many"}, "top_k"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": "nan"}, "threshold"),
        ({"topk": 3}, "did you mean 'top_k'?"),
        ({"labels": "Dgo"}, "Dog"),
        ({"exclude_labels": "Dgo"}, "Dog"),
        ({"frames": "maybe"}, "frames"),
    ],
)
def test_an_invalid_option_is_named(
    client: httpx.Client, options: dict[str, Any], message: str
) -> None:
    files = {"file": ("a.wav", sound_bytes())}
    in_query = problem(client.post("/classify", files=files, params=options), 422, "invalid-option")
    assert message in in_query["detail"]
    data = {name: str(value) for name, value in options.items()}
    in_form = problem(client.post("/classify", files=files, data=data), 422, "invalid-option")
    assert message in in_form["detail"]


def test_raw_embeddings_of_mini_are_refused(client: httpx.Client) -> None:
    answer = client.post(
        "/embed", files={"file": ("a.wav", sound_bytes())}, params={"values": "raw"}
    )
    assert "raw" in problem(answer, 422, "invalid-option")["detail"]


def test_an_unknown_model_is_refused_with_the_available_ones(client: httpx.Client) -> None:
    files = {"file": ("a.wav", sound_bytes())}
    for answer in (
        client.post("/classify", files=files, params={"model": "../../etc/passwd"}),
        client.post("/classify", files=files, data={"model": "nobody"}),
        client.get("/labels", params={"model": "nobody"}),
    ):
        assert problem(answer, 404, "unknown-model")["models"] == ["audioset"]


def test_unknown_addresses_and_methods_are_refused(client: httpx.Client) -> None:
    for path in ("/clasify", "/models/", "/v1/models/", "/static/"):
        problem(client.get(path), 404, "not-found")
    answer = client.get("/classify")
    assert "supports POST" in problem(answer, 405, "method-not-allowed")["detail"]
    assert answer.headers["allow"] == "POST"


def test_behind_a_proxy_only_the_page_redirects_to_its_slash() -> None:
    with running(embedder="mini", root_path="/tags") as served:
        answer = served.client.get("/tags")
        assert answer.headers["location"] == "/tags/"
        assert served.client.get(answer.headers["location"]).text.startswith("<!doctype html>")
        for path in ("/tags/models/", "/models/", "/tag"):
            problem(served.client.get(path), 404, "not-found")


def test_head_is_answered_as_get_without_the_body(client: httpx.Client) -> None:
    for path in ("/", "/models", "/readyz", "/static/app.css", "/examples/guitar_chord.ogg"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
    assert client.head("/classify").status_code == 405
    assert client.get("/version").status_code == 200  # on the same connection


@pytest.mark.parametrize("name", ["a\nb.wav", "a\x1b[31mb.wav", "x" * 2000 + ".wav"])
def test_a_file_name_is_printable_in_messages(client: httpx.Client, name: str) -> None:
    head = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/classify", content=part(head, "not audio"), headers=kind)
    detail = problem(answer, 400, "unreadable-audio")["detail"]
    assert "Format not recognised" in detail
    assert detail.isprintable()
    assert len(detail) < 300


def test_paths_of_programs_on_the_server_are_not_exposed(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOTAG_FFMPEG", "/a/private/place/ffmpeg")
    answer = client.post("/classify", files={"file": ("a.m4a", b"not audio")})
    detail = problem(answer, 400, "unreadable-audio")["detail"]
    assert "ffmpeg does not run" in detail
    assert "private" not in detail


def test_other_content_types_are_refused(client: httpx.Client) -> None:
    for headers in ({"content-type": "application/json"}, {"content-type": "text/plain"}, {}):
        answer = client.post("/classify", content=b"{}", headers=headers)
        problem(answer, 415, "unsupported-media-type")
        assert "multipart/form-data" in answer.headers["accept"]


def part(headers: str, value: str = "", *, is_last: bool = True) -> bytes:
    end = "--b--\r\n" if is_last else ""
    return f"--b\r\n{headers}\r\n\r\n{value}\r\n{end}".encode()


@pytest.mark.parametrize(
    ("body", "boundary", "message"),
    [
        (b"", "b", "incomplete"),
        (b"--b\r\n", "b", "incomplete"),
        (b"no boundary in it", "b", "malformed"),
        (
            part('Content-Disposition: form-data; name="file"', "x", is_last=False),
            "b",
            "incomplete",
        ),
        (part("Content-Type: audio/wav", "xx"), "b", "no name"),
        (part('Content-Disposition: form-data; name="top_k"', "3"), "b", "no audio"),
        (part('Content-Disposition: form-data; name="x"; filename="x"'), "b", "field 'file'"),
        (part("X: " + "y" * 20_000), "b", "header"),
        (part('Content-Disposition: form-data; name="top_k"', "3" * 70_000), "b", "64 KiB"),
        (
            part('Content-Disposition: form-data; name="labels"', "x" * 20_000, is_last=False) * 4,
            "b",
            "64 KiB in total",
        ),
        (b"", "", "boundary"),
    ],
)
def test_a_malformed_form_is_refused(
    client: httpx.Client, body: bytes, boundary: str, message: str
) -> None:
    kind = "multipart/form-data" + (f"; boundary={boundary}" if boundary else "")
    answer = client.post("/classify", content=body, headers={"content-type": kind})
    assert message in problem(answer, 400, "bad-request")["detail"]


def test_an_overlong_label_is_refused_without_a_search(client: httpx.Client) -> None:
    for options in ({"labels": "x" * 60_000}, {"exclude_labels": "x" * 201}):
        answer = client.post("/classify", files={"file": sound_bytes()}, data=options)
        detail = problem(answer, 422, "invalid-option")["detail"]
        assert next(iter(options)) in detail
        assert len(detail) < 200


def test_small_clips_of_a_batch_do_not_accumulate_in_memory(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: dict[int, Upload] = {}
    held: list[int] = []
    add = Upload.add

    def watched(self: Upload, data: bytes) -> None:
        uploads[id(self)] = self
        add(self, data)
        held.append(sum(upload.bytes_in_memory for upload in uploads.values()))

    monkeypatch.setattr(Upload, "add", watched)
    sounds = [("files", (f"{n}.wav", b"not audio" * 50_000)) for n in range(8)]
    answer = client.post("/classify/batch", files=sounds)
    assert len(answer.json()["results"]) == 8
    assert SPOOL_BYTES / 2 < max(held) < 2 * SPOOL_BYTES


def test_several_clips_require_the_batch_address(client: httpx.Client) -> None:
    files = [("file", ("a.wav", sound_bytes())), ("file", ("b.wav", sound_bytes()))]
    answer = client.post("/classify", files=files)
    detail = problem(answer, 400, "bad-request")["detail"]
    assert detail == "only one clip in a request; POST /classify/batch accepts several"


def test_the_files_of_a_batch_are_limited(served: Running, client: httpx.Client) -> None:
    n_files = served.service.config.max_batch_files
    files = [("files", (f"{n}.wav", b"not audio")) for n in range(n_files + 1)]
    answer = client.post("/classify/batch", files=files)
    detail = problem(answer, 400, "bad-request")["detail"]
    assert detail == f"at most {n_files} clips in a request"


def test_a_large_body_is_refused_with_and_without_a_declared_length(
    client: httpx.Client,
) -> None:
    data = b"\0" * (10 << 20)
    headers = {"content-type": "audio/wav"}
    announced = client.post("/classify", content=data, headers=headers)
    assert problem(announced, 413, "too-large")["max_bytes"] == 8 << 20

    def pieces() -> Iterator[bytes]:
        for _ in range(160):
            yield data[: 1 << 16]

    problem(client.post("/classify", content=pieces(), headers=headers), 413, "too-large")
    problem(client.post("/classify", files={"file": ("a.wav", data)}), 413, "too-large")


def test_a_form_does_not_raise_the_size_limit(client: httpx.Client) -> None:
    limit = 8 << 20
    header = sound_bytes()[:44]  # of two seconds; later data is not read
    whole = header + b"\0" * (limit - len(header))
    for sound, status in ((whole, 200), (whole + b"\0", 413)):
        answer = client.post("/classify", files={"file": sound})
        assert answer.status_code == status, answer.text
    halves = [("files", whole[: limit // 2]), ("files", whole[: limit // 2 + 1])]
    problem(client.post("/classify/batch", files=halves), 413, "too-large")
    assert client.post("/classify/batch", files=[("files", whole[: limit // 2])] * 2).is_success


def test_long_audio_is_refused(client: httpx.Client) -> None:
    bomb = io.BytesIO()
    soundfile.write(bomb, np.zeros(61 * 16_000, np.int16), 16_000, format="FLAC")
    assert len(bomb.getvalue()) < 100_000
    answer = client.post("/classify", files={"file": ("bomb.flac", bomb.getvalue())})
    assert "60" in problem(answer, 413, "audio-too-long")["detail"]


def test_problem_types_are_explained_at_their_address(client: httpx.Client) -> None:
    for slug, kind in PROBLEMS.items():
        text = client.get(f"/problems/{slug}").text
        assert kind.title in text
        assert kind.explanation in text
    problem(client.get("/problems/unheard-of"), 404, "not-found")


def test_probes_and_metrics_respond(served: Running, client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    before = served.metric("audiotag_audio_seconds_total")
    failed = served.metric("audiotag_errors_total", kind="unreadable-audio")
    classify(client, sound_bytes(seconds=3))
    client.post("/classify", files={"file": ("a.wav", b"nothing")})
    assert served.metric("audiotag_audio_seconds_total") == pytest.approx(before + 3, abs=0.01)
    assert served.metric("audiotag_errors_total", kind="unreadable-audio") == failed + 1
    for stage in ("upload", "queue", "decode", "front_end", "embed", "head"):
        assert served.metric("audiotag_stage_seconds_count", stage=stage) >= 1


def test_uploads_are_removed(served: Running, client: httpx.Client) -> None:
    classify(client, sound_bytes(seconds=50, rate_hz=44_100))
    client.post("/classify", files={"file": ("a.wav", b"nothing")})
    client.post("/embed", files={"file": ("a.wav", sound_bytes())})
    left = [path.name for path in served.service.storage.directory.iterdir()]
    assert left == ["lock"]


def raw_request(served: Running, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.port))
    connection.sendall(data)
    return connection


UPLOAD_HEAD = (
    b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
    b"Content-Length: 3000000\r\n\r\n"
)


def test_a_disconnect_during_an_upload_removes_it(served: Running) -> None:
    service = served.service
    gone = served.metric("audiotag_errors_total", kind="client-gone")
    connection = raw_request(served, UPLOAD_HEAD + b"RIFF" * 500_000)
    wait_until(
        lambda: service.uploads.n_taken == 1 and len(list(service.storage.directory.iterdir())) > 1
    )
    connection.close()
    wait_until(lambda: service.uploads.n_taken == 0)
    wait_until(lambda: len(list(service.storage.directory.iterdir())) == 1)
    assert served.metric("audiotag_errors_total", kind="client-gone") == gone + 1


def test_a_disconnect_while_the_job_fails_logs_no_error(
    served: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running_now, failed = threading.Event(), threading.Event()

    async def run(*_: object, **__: object) -> None:
        running_now.set()
        try:
            await asyncio.sleep(TIMEOUT_SECONDS)
        except asyncio.CancelledError:
            raise Problem("unreadable-audio", "this is not audio") from None
        finally:
            failed.set()

    monkeypatch.setattr(served.service.pool, "run", run)
    head = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: audio/wav\r\n"
    with raw_request(served, head + b"Content-Length: 4\r\n\r\nRIFF"):
        assert running_now.wait(TIMEOUT_SECONDS)
    assert failed.wait(TIMEOUT_SECONDS)
    served.client.get("/healthz")  # the event loop has run since
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_an_idle_upload_times_out() -> None:
    with running(embedder="mini", upload_idle_seconds=2.0) as served:
        connection = raw_request(served, UPLOAD_HEAD + b"RIFF")
        connection.settimeout(10)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        connection.close()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"/problems/upload-timeout" in answer
        assert served.service.uploads.n_taken == 0


def test_a_slow_upload_times_out() -> None:
    with running(embedder="mini", upload_timeout_seconds=0.5) as served:
        connection = raw_request(served, UPLOAD_HEAD)
        connection.settimeout(0.05)
        answer, end = b"", time.monotonic() + TIMEOUT_SECONDS
        while not answer and time.monotonic() < end:
            with contextlib.suppress(ConnectionError):  # may already be answered and closed
                connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
        connection.close()
        assert answer.startswith(b"HTTP/1.1 408")


def test_the_openapi_document_describes_requests_and_responses(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    paths = document["paths"]
    assert {"/classify", "/classify/batch", "/embed", "/models", "/labels"} <= set(paths)
    assert {"/healthz", "/readyz", "/metrics", "/version"} <= set(paths)
    content = paths["/classify"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "audio/*"} <= set(content)
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        if schema.get("type") == "object" and name not in ("Failed", "ClassifiedBatch"):
            assert schema.get("examples") or "Served" in name or "Labels" in name, name
    text = json.dumps(document)
    assert "HTTPValidationError" not in text


def test_the_openapi_document_states_ranges_and_the_keys_of_the_model(
    client: httpx.Client,
) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    tags = schemas["ServiceTags"]["properties"]
    assert tags["model"]["required"] == ["name", "head", "sha256"] == [*tags["model"]["properties"]]
    assert tags["duration_seconds"]["minimum"] == 0
    score = schemas["Tag"]["properties"]["score"]
    assert (score["type"], score["minimum"], score["maximum"]) == ("number", 0, 1)
    # All properties are always sent, so that none has a default.
    assert "default" not in json.dumps(schemas["ServiceTags"]["properties"]["warnings"])


def test_the_documentation_lists_all_problems() -> None:
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    for slug, kind in PROBLEMS.items():
        assert f"| `{slug}` | {kind.status} |" in text


def test_a_refused_body_is_read_so_that_the_client_receives_the_response(
    served: Running,
) -> None:
    """The client reads only after it has sent everything, more than the loopback buffers hold."""
    n_bytes = 40 << 20
    connection = raw_request(
        served,
        b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
        + f"Content-Length: {n_bytes}\r\n\r\n".encode(),
    )
    connection.settimeout(30)
    for _ in range(n_bytes >> 20):
        connection.sendall(bytes(1 << 20))
    assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    connection.close()


def send_for_ever(connection: socket.socket, piece: bytes) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        connection.sendall(piece)


def test_an_endless_body_that_is_refused_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, served: Running
) -> None:
    monkeypatch.setattr("service.middleware.request_context.DISCARD_SECONDS", 0.3)
    connection = raw_request(
        served,
        b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
    )
    connection.settimeout(30)
    piece = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    with pytest.raises(OSError, match=r"reset|pipe|abort"):
        send_for_ever(connection, piece)
    connection.close()
    assert served.client.get("/healthz").status_code == 200


def test_a_client_that_expects_100_is_refused_at_once(served: Running) -> None:
    connection = raw_request(
        served,
        b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
        b"Expect: 100-continue\r\nContent-Length: 900000000\r\n\r\n",
    )
    connection.settimeout(30)
    answer = connection.recv(65536)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()
