"""The client: sounds to an audiotag service elsewhere, its tags back as if made here.

    from service import Client

    with Client("http://127.0.0.1:8000") as client:
        for tag in client.classify("clip.wav", top_k=3).tags:
            print(tag.label, tag.score)

`AsyncClient` has the same methods, to be awaited. Both may be shared, by threads or by tasks.

A service that is busy (429, 503) is asked again when it says that it wants to be, and so is one
whose connection broke; the pauses grow, and tries and time have an end. All that a service does
is to compute, so asking twice does no harm. Sounds are sent as they are read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from classifier.labels import Labels
from service.client import calls as calls
from service.client.calls import Flow, Wanted, Wish
from service.client.multipart import Source, Upload, open_sound
from service.client.retries import Call, Outcome, Settings
from service.documents import ServiceModel, ServiceTags, ServiceVersion
from vggish.common.choices import Tail, Values
from vggish.errors import OptionError, ServiceError
from vggish.frames.clip import ClipFrames
from vggish.params import VERSION

if TYPE_CHECKING:
    from typing_extensions import Unpack


_Result = TypeVar("_Result")

TIMEOUT_SECONDS = 120.0

CONNECT_SECONDS = 10.0

RETRIES = 4

RETRY_SECONDS = 60.0


class _Base:
    """What both clients are made of; see `Client`."""

    _kind: type[Any]
    _http: Any

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        url = base_url.rstrip("/")
        self._settings = Settings(url, timeout_seconds, retries, retry_seconds)
        headers = _headers(api_key)
        try:
            self._http = self._kind(
                base_url=url,
                headers=headers,
                timeout=httpx.Timeout(
                    timeout_seconds, connect=min(timeout_seconds, CONNECT_SECONDS)
                ),
                # It would carry the sound, and the key, to where nobody sent them.
                follow_redirects=False,
            )
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
            raise OptionError(
                f"cannot use the proxy or certificates that the environment names: {error}"
            ) from error

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._settings.url

    def _request(self, call: Call, content: Any) -> httpx.Request:
        request: httpx.Request = self._http.build_request(
            call.method,
            call.path,
            params=list(call.params) or None,
            headers=dict(call.headers),
            content=content,
        )
        return request


class Client(_Base):
    """A service of audiotag: a context manager, to be shared by threads.

    Args:
        base_url: address of the service, as `http://127.0.0.1:8000`.
        api_key: sent with every request, if the service wants one.
        timeout_seconds: how long to wait until a piece of the body is taken, and for the answer;
            at most ten seconds for a connection.
        retries: further tries after one that failed in passing, at most.
        retry_seconds: no try begins later than this after the first one; a service that wants a
            longer pause is not asked again.

    Raises:
        OptionError: the address is none, or the key or a number makes no sense.
    """

    _kind = httpx.Client
    _http: httpx.Client

    def classify(
        self, source: Source, *, name: str | None = None, **wish: Unpack[Wish]
    ) -> ServiceTags:
        """Have one sound tagged.

        Args:
            source: path, "-" for standard input, bytes, or a binary file object (read from where
                it stands to its end, and left open).
            name: what to call it; the path by default. The service gets the last part.
            wish: top_k (default 10), threshold, labels, exclude_labels, frames, segments,
                tracks, model; see `service.client.calls.Wanted`.

        Raises:
            AudioError: the source cannot be read here.
            ServiceError: the service refused or failed, or is none; with its status and problem.
            ServiceUnreachableError: there is no connection to it.
            OptionError: an argument is of another kind.
        """
        wanted = Wanted(**wish)
        upload = Upload("file", [open_sound(source, name)])
        return self._send(upload, calls.classify(self._settings, upload, wanted))

    def classify_batch(
        self, sources: Sequence[Source], **wish: Unpack[Wish]
    ) -> list[ServiceTags | ServiceError]:
        """Have several sounds tagged by one request; as many as the service takes at once.

        Args: see `classify`.

        Returns:
            In the order of the sources: tags, or the error in the place of what failed.

        Raises: see `classify`.
        """
        wanted = Wanted(**wish)
        upload = _upload_all(sources)
        return self._send(upload, calls.classify_batch(self._settings, upload, wanted))

    def embed(
        self,
        source: Source,
        *,
        name: str | None = None,
        values: Values = "uint8",
        hop_seconds: float | None = None,
        tail: Tail = "pad",
        model: str | None = None,
    ) -> ClipFrames:
        """Have the frames of one sound made.

        Args:
            source: see `classify`.
            name: see `classify`.
            values: see `vggish.EmbedOptions`.
            hop_seconds: from one frame to the next; None for 0.96.
            tail: whether silence completes the last frame ("pad"), or it is left out ("drop").
            model: whose embedder; None for that of the service's default.

        Raises: see `classify`.
        """
        upload = Upload("file", [open_sound(source, name)])
        flow = calls.embed(self._settings, upload, values, hop_seconds, tail, model)
        return self._send(upload, flow)

    def models(self) -> tuple[ServiceModel, ...]:
        """The models that the service has. Raises: see `classify`."""
        return self._run(calls.models(self._settings))

    def labels(self, model: str | None = None) -> Labels:
        """The labels of a model, by default the service's. Raises: see `classify`."""
        return self._run(calls.labels(self._settings, model))

    def version(self) -> ServiceVersion:
        """What the service is. Raises: see `classify`."""
        return self._run(calls.version(self._settings))

    def ready(self) -> bool:
        """Whether the service would take a sound now; asked once. Raises: see `classify`."""
        return self._run(calls.ready(self._settings))

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, upload: Upload, flow: Flow[_Result]) -> _Result:
        try:
            return self._run(flow)
        finally:
            upload.close()

    def _run(self, flow: Flow[_Result]) -> _Result:
        outcome: Outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            if isinstance(step, float):
                time.sleep(step)
                outcome = None
                continue
            try:
                content = None if step.body is None else step.body.chunks()
                outcome = self._http.send(self._request(step, content))
            except httpx.RequestError as error:
                outcome = error


class AsyncClient(_Base):
    """As `Client`, for asynchronous code; to be shared by the tasks of one event loop."""

    _kind = httpx.AsyncClient
    _http: httpx.AsyncClient

    async def classify(
        self, source: Source, *, name: str | None = None, **wish: Unpack[Wish]
    ) -> ServiceTags:
        """See `Client.classify`."""
        wanted = Wanted(**wish)
        upload = Upload("file", [open_sound(source, name)])
        return await self._send(upload, calls.classify(self._settings, upload, wanted))

    async def classify_batch(
        self, sources: Sequence[Source], **wish: Unpack[Wish]
    ) -> list[ServiceTags | ServiceError]:
        """See `Client.classify_batch`."""
        wanted = Wanted(**wish)
        upload = _upload_all(sources)
        return await self._send(upload, calls.classify_batch(self._settings, upload, wanted))

    async def embed(
        self,
        source: Source,
        *,
        name: str | None = None,
        values: Values = "uint8",
        hop_seconds: float | None = None,
        tail: Tail = "pad",
        model: str | None = None,
    ) -> ClipFrames:
        """See `Client.embed`."""
        upload = Upload("file", [open_sound(source, name)])
        flow = calls.embed(self._settings, upload, values, hop_seconds, tail, model)
        return await self._send(upload, flow)

    async def models(self) -> tuple[ServiceModel, ...]:
        """See `Client.models`."""
        return await self._run(calls.models(self._settings))

    async def labels(self, model: str | None = None) -> Labels:
        """See `Client.labels`."""
        return await self._run(calls.labels(self._settings, model))

    async def version(self) -> ServiceVersion:
        """See `Client.version`."""
        return await self._run(calls.version(self._settings))

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return await self._run(calls.ready(self._settings))

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _send(self, upload: Upload, flow: Flow[_Result]) -> _Result:
        try:
            return await self._run(flow)
        finally:
            upload.close()

    async def _run(self, flow: Flow[_Result]) -> _Result:
        from anyio import sleep

        outcome: Outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            if isinstance(step, float):
                await sleep(step)
                outcome = None
                continue
            try:
                content = None if step.body is None else step.body.chunks_async()
                outcome = await self._http.send(self._request(step, content))
            except httpx.RequestError as error:
                outcome = error


def _headers(api_key: str | None) -> dict[str, str]:
    headers = {"User-Agent": f"audiotag/{VERSION}", "Accept": "application/json"}
    if api_key is None:
        return headers
    if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
        # The key itself stays out of messages.
        raise OptionError("an API key is one line of ASCII letters. Received: something else")
    return {**headers, "Authorization": f"Bearer {api_key}"}


def _upload_all(sources: Sequence[Source]) -> Upload:
    """Open several sounds; none stays open if one cannot be."""
    sounds = []
    try:
        for source in sources:
            sounds.append(open_sound(source))
        if not sounds:
            raise OptionError("a batch needs at least one sound. Received: none")
    except BaseException:
        for sound in sounds:
            sound.close()
        raise
    return Upload("files", sounds)
