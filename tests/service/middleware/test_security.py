"""API keys, limits, origins, proxies, and security headers."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.types import Scope
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from service.metrics import Metrics
from service.middleware import access
from service.middleware.access import key_of
from service.middleware.limits import TokenBuckets
from service.middleware.proxies import TrustedProxies, parse_address
from service.middleware.request_context import path_of
from service.problems import PROBLEMS
from service.settings.config import ServiceConfig
from tests.support.service_apps import guarded_app, served

KEY = "right-key"
OPEN = ["/", "/static/app.js", "/healthz", "/openapi.json", "/problems/internal"]
PROTECTED = ["/classify", "/v1/classify", "/models", "/metrics", "/nothing", "/staticx"]

Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask_with() -> Iterator[Callable[..., Ask]]:
    """Start a server with these settings; return a function that sends requests to it."""
    import contextlib

    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Ask:
            app = guarded_app(ServiceConfig(**settings))
            where = stack.enter_context(served(app))
            client = stack.enter_context(httpx.Client(base_url=f"http://{where}"))

            def ask(path: str, method: str = "GET", **more: Any) -> httpx.Response:
                return client.request(method, path, **more)

            ask.where = where  # type: ignore[attr-defined]
            return ask

        yield start


def slug_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    assert document["instance"] == response.headers["x-request-id"]
    slug = str(document["type"]).removeprefix("/problems/")
    assert PROBLEMS[slug].status == response.status_code
    return slug


# --- keys --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OPEN)
def test_pages_and_probes_need_no_key(path: str, ask_with: Callable[..., Ask]) -> None:
    assert ask_with(api_keys=(KEY,))(path).status_code == 200


@pytest.mark.parametrize("path", PROTECTED)
def test_all_other_paths_need_a_key(path: str, ask_with: Callable[..., Ask]) -> None:
    ask = ask_with(api_keys=("other-key", KEY))
    unasked = ask(path)
    assert slug_of(unasked) == "unauthorized"
    assert unasked.headers["www-authenticate"].startswith("Bearer")
    for headers in ({"Authorization": f"Bearer {KEY}x"}, {"X-API-Key": ""}, {"X-API-Key": "a"}):
        assert slug_of(ask(path, headers=headers)) == "forbidden"
    for headers in ({"Authorization": f"bearer {KEY}"}, {"X-API-Key": KEY}):
        assert ask(path, headers=headers).status_code in (200, 404)
    assert slug_of(ask(path, headers={"Authorization": "Basic abc"})) == "unauthorized"


def test_without_keys_no_key_is_needed(ask_with: Callable[..., Ask]) -> None:
    assert ask_with()("/classify").status_code == 200


def test_keys_of_a_file_are_valid(ask_with: Callable[..., Ask], tmp_path: Any) -> None:
    (tmp_path / "keys").write_text(KEY)
    ask = ask_with(api_keys_file=tmp_path / "keys")
    assert ask("/models").status_code == 401
    assert ask("/models", headers={"X-API-Key": KEY}).status_code == 200


def test_all_keys_are_compared_even_after_a_match(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    compare_digest = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        assert len(a) == len(b) == 32
        compared.append(b)
        return compare_digest(a, b)

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    keys = ["one", "two", "three"]
    for key, found in (("one", True), ("three", True), ("none", False), ("\u00e9", False)):
        compared.clear()
        assert access.is_valid_key(keys, key) is found
        assert len(compared) == 3


def test_a_bearer_token_takes_precedence_over_x_api_key() -> None:
    assert key_of(Headers({"authorization": "Bearer  a ", "x-api-key": "b"})) == "a"
    assert key_of(Headers({"authorization": "Bearer ", "x-api-key": "b"})) == "b"
    assert key_of(Headers({"authorization": "a"})) is None


def test_a_key_is_never_in_the_log(
    ask_with: Callable[..., Ask], caplog: pytest.LogCaptureFixture
) -> None:
    ask = ask_with(api_keys=(KEY,), log_level="debug")
    with caplog.at_level(logging.DEBUG):
        ask("/models?x=1", headers={"X-API-Key": KEY})
        ask("/models", headers={"X-API-Key": "wrong-key"})
    assert any("/models 200" in record.getMessage() for record in caplog.records)
    for record in caplog.records:
        assert "-key" not in json.dumps(vars(record), default=str)


def test_a_stream_has_its_key_in_a_header_or_in_its_first_message(
    ask_with: Callable[..., Ask],
) -> None:
    where = ask_with(api_keys=(KEY,)).where  # type: ignore[attr-defined]
    for path in ("stream", "v1/stream"):
        for key, headers in (
            (KEY, {}),
            (KEY, {"X-API-Key": KEY}),
            (None, {"Authorization": f"Bearer {KEY}"}),
        ):
            with connect(f"ws://{where}/{path}", additional_headers=headers) as socket:
                assert socket.response is not None
                assert socket.response.headers["x-request-id"]
                socket.send(json.dumps({"api_key": key}))
                assert json.loads(socket.recv()) == {"ready": True}
        for key, status in (("wrong", 403), (None, 401)):
            with connect(f"ws://{where}/{path}") as socket:
                socket.send(json.dumps({"api_key": key}))
                assert json.loads(socket.recv())["status"] == status
        with pytest.raises(InvalidStatus) as caught:
            connect(f"ws://{where}/{path}", additional_headers={"X-API-Key": "wrong"})
        assert caught.value.response.status_code == 403
        assert json.loads(caught.value.response.body or b"")["type"] == "/problems/forbidden"
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{where}/other")
    assert caught.value.response.status_code == 401


# --- rate limit --------------------------------------------------------------------------


def test_a_token_bucket_starts_full_and_refills_steadily() -> None:
    now = 0.0
    buckets = TokenBuckets(30, clock=lambda: now)
    assert [buckets.take("a") for _ in range(30)] == [0] * 30
    assert buckets.take("a") == pytest.approx(2)
    assert buckets.take("b") == 0
    now = 1.5
    assert buckets.take("a") == pytest.approx(0.5)
    now = 2.0
    assert buckets.take("a") == 0
    assert buckets.take("a") == pytest.approx(2)
    now = 1000.0
    assert [bool(buckets.take("a")) for _ in range(31)] == [False] * 30 + [True]


def test_constant_requests_get_exactly_the_rate() -> None:
    now = 0.0
    buckets = TokenBuckets(60, clock=lambda: now)
    n_served = 0
    for step in range(10_000):
        now = step / 100
        n_served += buckets.take("a") == 0
    assert n_served == pytest.approx(60 + 100, abs=1)


def test_the_number_of_buckets_is_limited() -> None:
    buckets = TokenBuckets(1, max_buckets=3)
    for client in range(1000):
        assert buckets.take(client) == 0
        assert len(buckets) <= 3
    assert buckets.take(999) > 0
    assert buckets.take(0) == 0


def test_each_address_and_each_key_has_its_own_limit(ask_with: Callable[..., Ask]) -> None:
    ask = ask_with(rate_limit_per_minute=2, trusted_proxies=("127.0.0.1",), api_keys=("one", "two"))

    def asked(key: str, address: str = "192.0.2.1") -> httpx.Response:
        return ask("/models", headers={"X-API-Key": key, "X-Forwarded-For": address})

    assert [asked("one", f"192.0.2.{n}").status_code for n in range(3)] == [200, 200, 429]
    assert [asked("two").status_code for _ in range(3)] == [200, 200, 429]
    refused = asked("two")
    assert slug_of(refused) == "rate-limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 31
    # Guessed keys count for the address.
    guesses = [asked(f"guess-{n}", "192.0.2.9").status_code for n in range(4)]
    assert guesses == [403, 403, 429, 429]
    assert asked("guess", "192.0.2.10").status_code == 403
    # A /64 network is one client.
    network = [asked("guess", f"2001:db8::{n}").status_code for n in range(3)]
    assert network == [403, 403, 429]
    assert asked("guess", "2001:db8:0:1::1").status_code == 403


def test_pages_probes_and_metrics_are_not_limited(ask_with: Callable[..., Ask]) -> None:
    ask = ask_with(rate_limit_per_minute=1)
    for path in (*OPEN, "/metrics"):
        assert [ask(path).status_code for _ in range(3)] == [200] * 3
    where = ask.where  # type: ignore[attr-defined]
    with connect(f"ws://{where}/stream"):
        pass
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{where}/stream")
    assert caught.value.response.status_code == 429
    assert caught.value.response.headers["retry-after"]


# --- origins -----------------------------------------------------------------------------


def origin_status(where: str, headers: dict[str, str]) -> tuple[int, int]:
    """Statuses of a form and of a WebSocket handshake sent with the given headers."""
    posted = httpx.post(f"http://{where}/classify", headers=headers).status_code
    try:
        # The library adds its own header Host.
        with connect(f"ws://{where}/stream", additional_headers=headers):
            return posted, 101
    except InvalidStatus as error:
        return posted, error.response.status_code


def test_pages_of_other_sites_are_refused(ask_with: Callable[..., Ask]) -> None:
    ask = ask_with()
    where = ask.where  # type: ignore[attr-defined]
    welcome = (200, 101)
    assert origin_status(where, {}) == welcome
    assert origin_status(where, {"Origin": f"http://{where}"}) == welcome
    assert origin_status(where, {"Origin": f"HTTPS://{where}"}) == welcome
    assert origin_status(where, {"Origin": "http://evil", "Sec-Fetch-Site": "same-origin"}) == (
        welcome
    )
    for origin in ("http://evil.example", "null", "http://127.0.0.1", f"http://{where}.evil", ""):
        for more in ({}, {"Sec-Fetch-Site": "cross-site"}, {"X-Forwarded-Host": "evil.example"}):
            assert origin_status(where, {"Origin": origin, **more}) == (403, 403)
    refused = ask("/classify", "POST", headers={"Origin": "http://evil.example"})
    assert slug_of(refused) == "forbidden"
    assert "cors_origins" in refused.json()["detail"]
    assert ask("/models", headers={"Origin": "http://evil.example"}).status_code == 200
    assert "access-control-allow-origin" not in refused.headers


def test_pages_of_allowed_origins_are_accepted(ask_with: Callable[..., Ask]) -> None:
    ask = ask_with(cors_origins=("https://good.example",), api_keys=(KEY,))
    where = ask.where  # type: ignore[attr-defined]
    good = {"Origin": "https://good.example"}
    key = {"X-API-Key": KEY}
    assert origin_status(where, {**good, **key}) == (200, 101)
    assert origin_status(where, {"Origin": "https://evil.example", **key}) == (403, 403)
    preflight = {**good, "Access-Control-Request-Method": "POST"}
    requested = {"Access-Control-Request-Headers": "authorization,x-request-id,content-type"}
    allowed = ask("/classify", "OPTIONS", headers={**preflight, **requested})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://good.example"
    assert "access-control-allow-credentials" not in allowed.headers
    # The page must be able to read the problem.
    refused = ask("/classify", "POST", headers=good)
    assert slug_of(refused) == "unauthorized"
    assert refused.headers["access-control-allow-origin"] == "https://good.example"
    evil = ask("/classify", "OPTIONS", headers={**preflight, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in evil.headers


def test_all_origins_can_be_allowed(ask_with: Callable[..., Ask]) -> None:
    ask = ask_with(cors_origins=("*",))
    assert origin_status(ask.where, {"Origin": "https://any.example"}) == (200, 101)  # type: ignore[attr-defined]
    assert ask("/models", headers={"Origin": "null"}).headers["access-control-allow-origin"] == "*"


# --- proxies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "forwarded", "client"),
    [
        ((), "192.0.2.1", "127.0.0.1"),
        (("10.0.0.0/8",), "192.0.2.1", "127.0.0.1"),
        (("127.0.0.1",), "192.0.2.1", "192.0.2.1"),
        (("127.0.0.1",), "192.0.2.1:5000", "192.0.2.1"),
        (("127.0.0.1",), "[2001:db8::1]:80", "2001:db8::1"),
        (("127.0.0.1",), "6.6.6.6, 192.0.2.1", "192.0.2.1"),
        (("127.0.0.1", "10.0.0.0/8"), "6.6.6.6, 192.0.2.1, 10.1.1.1", "192.0.2.1"),
        (("127.0.0.1", "10.0.0.0/8"), "10.9.9.9, 10.1.1.1", "10.9.9.9"),
        (("127.0.0.1", "10.0.0.0/8"), "192.0.2.1, unknown, 10.1.1.1", "10.1.1.1"),
        (("127.0.0.1",), "unknown", "127.0.0.1"),
        (("127.0.0.1",), "", "127.0.0.1"),
        (("127.0.0.1",), "::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_only_headers_of_trusted_proxies_are_used(
    trusted: tuple[str, ...], forwarded: str, client: str, ask_with: Callable[..., Ask]
) -> None:
    ask = ask_with(trusted_proxies=trusted)
    forwarding = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "tags.example"}
    answer = ask("/classify", headers={"X-Forwarded-For": forwarded, **forwarding}).json()
    assert answer["client"] == client
    believed = "127.0.0.1" in trusted
    assert answer["url"].startswith("https://tags.example/") is believed
    if believed:
        page = {"Origin": "https://tags.example", **forwarding}
        assert origin_status(ask.where, page) == (200, 101)  # type: ignore[attr-defined]
        assert origin_status(ask.where, {**page, "Origin": "https://x"}) == (403, 403)  # type: ignore[attr-defined]


def test_repeated_headers_are_one_list(ask_with: Callable[..., Ask]) -> None:
    headers = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "192.0.2.1")]
    assert ask_with(trusted_proxies=("127.0.0.1",))("/classify", headers=headers).json()[
        "client"
    ] == ("192.0.2.1")


def test_ipv4_mapped_addresses_are_ipv4() -> None:
    scope: Scope = {
        "type": "http",
        "client": ("::ffff:10.0.0.1", 1),
        "headers": [(b"x-forwarded-for", b"192.0.2.1")],
    }
    TrustedProxies(["10.0.0.0/8"]).apply(scope)
    assert scope["client"] == ("192.0.2.1", 0)
    for nonsense in ("", "host", "1.2.3", "1.2.3.4:5:6", "10.0.0.1/8"):
        assert parse_address(nonsense) is None


@pytest.mark.parametrize(
    ("path", "root", "within"),
    [
        ("/classify", "", "/classify"),
        ("/v1/classify", "", "/classify"),
        ("/audio/v1/classify", "/audio", "/classify"),
        ("/audio/classify", "/audio", "/classify"),
        ("/audiox/classify", "/audio", "/audiox/classify"),
        ("/v1", "", "/v1"),
        ("/v1/v1/classify", "", "/v1/classify"),
    ],
)
def test_path_prefixes_of_proxy_and_version_are_removed(path: str, root: str, within: str) -> None:
    assert path_of({"path": path, "root_path": root}) == within


# --- responses ---------------------------------------------------------------------------


def test_a_safe_request_id_is_kept_and_another_replaced(
    ask_with: Callable[..., Ask],
) -> None:
    ask = ask_with()
    for given in ("abc-1_2.3", "a" * 64):
        answer = ask("/classify", headers={"X-Request-ID": given})
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == given
    ids = set()
    for given in ("", "a" * 65, "a b", "a\tb", "<script>", "\u00e9".encode().decode("latin-1")):
        answer = ask("/classify", headers={"X-Request-ID": given.encode("latin-1")})  # type: ignore[dict-item]
        assert answer.headers["x-request-id"] == answer.json()["request_id"] != given
        ids.add(answer.headers["x-request-id"])
    assert len(ids) == 6


@pytest.mark.parametrize("path", [*OPEN, *PROTECTED, "/boom"])
def test_all_responses_have_security_headers(path: str, ask_with: Callable[..., Ask]) -> None:
    answer = ask_with()(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "microphone=(self)" in answer.headers["permissions-policy"]
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    is_page = path in ("/", "/static/app.js", "/problems/internal")
    assert ("script-src 'self'" in policy) is is_page
    no_store = answer.headers.get("cache-control") == "no-store"
    assert no_store is (not is_page or answer.status_code >= 400)


def test_an_unexpected_error_is_logged_but_its_details_are_not_sent(
    ask_with: Callable[..., Ask], caplog: pytest.LogCaptureFixture
) -> None:
    ask = ask_with()
    with caplog.at_level(logging.INFO):
        answer = ask("/boom", headers={"X-Request-ID": "mine"})
    assert slug_of(answer) == "internal"
    assert "secret" not in answer.text
    assert "mine" in answer.json()["detail"]
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.name == "audiotag.service"
    assert "secret of the implementation" in str(record.exc_info)


def test_an_error_after_half_a_response_closes_the_connection(
    ask_with: Callable[..., Ask], caplog: pytest.LogCaptureFixture
) -> None:
    ask = ask_with()
    with caplog.at_level(logging.ERROR), pytest.raises(httpx.RemoteProtocolError):
        ask("/late")
    assert [record.name for record in caplog.records][:1] == ["audiotag.service"]
    assert ask("/healthz").status_code == 200


def test_an_error_in_a_stream_closes_it_and_is_logged(
    ask_with: Callable[..., Ask], caplog: pytest.LogCaptureFixture
) -> None:
    where = ask_with().where  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR), connect(f"ws://{where}/stream") as socket:
        socket.send(json.dumps({"api_key": "boom"}))
        with pytest.raises(ConnectionClosedError) as caught:
            socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1011
    assert [record.name for record in caplog.records] == ["audiotag.service"]


def test_a_stream_closed_by_the_client_logs_no_error(
    ask_with: Callable[..., Ask], caplog: pytest.LogCaptureFixture
) -> None:
    ask = ask_with()
    with caplog.at_level(logging.WARNING):
        with connect(f"ws://{ask.where}/stream"):  # type: ignore[attr-defined]
            pass
        assert ask("/healthz").status_code == 200
    assert not caplog.records


def test_requests_are_counted_by_pattern_method_and_status() -> None:
    metrics = Metrics(ServiceConfig())
    app = guarded_app(ServiceConfig(api_keys=(KEY,)), metrics)
    with served(app) as where, httpx.Client(base_url=f"http://{where}") as client:
        key = {"X-API-Key": KEY}
        client.post("/classify", headers=key)
        client.post("/v1/classify", headers=key)
        client.post("/classify")
        for n in range(5):
            client.get(f"/nothing/{n}", headers=key)
            client.get(f"/problems/{n}")
        client.request("PROPFIND", "/nothing", headers=key)
        client.get("/static/app.js")
        client.get("/boom", headers=key)
        with connect(f"ws://{where}/stream", additional_headers=key):
            pass
    counts = {
        line
        for line in metrics.render()[0].decode().splitlines()
        if line.startswith(("audiotag_requests_total", "audiotag_errors_total"))
    }
    assert counts == {
        'audiotag_requests_total{method="POST",route="/classify",status="200"} 2.0',
        'audiotag_requests_total{method="POST",route="other",status="401"} 1.0',
        'audiotag_requests_total{method="GET",route="other",status="404"} 5.0',
        'audiotag_requests_total{method="GET",route="/problems/*",status="200"} 5.0',
        'audiotag_requests_total{method="other",route="other",status="404"} 1.0',
        'audiotag_requests_total{method="GET",route="/static/*",status="200"} 1.0',
        'audiotag_requests_total{method="GET",route="/boom",status="500"} 1.0',
        'audiotag_requests_total{method="WEBSOCKET",route="/stream",status="101"} 1.0',
        'audiotag_errors_total{kind="unauthorized"} 1.0',
        'audiotag_errors_total{kind="internal"} 1.0',
    }
