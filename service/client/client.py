"""Clients of an audiotag service, with the results that a local tagger returns.

    from service import Client

    with Client("http://127.0.0.1:8000") as client:
        for tag in client.classify("clip.wav", top_k=3).tags:
            print(tag.label, tag.score)

`AsyncClient` has the same methods as coroutines. Both can be shared, by threads or by tasks.

If the service is busy (429, 503), the client waits for as long as the service asks and tries
again; it also retries after a broken connection, with growing pauses. The service only computes,
so a repeated request does no harm. Files are streamed as they are read.
"""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import httpx
import numpy as np

from classifier.labels import Labels
from service.client.audio_file import open_audio_file
from service.client.calls import Call, ClassifyArguments, EmbedArguments, classify_params, given
from service.client.outcomes import Attempts, RetryPolicy, problem_error
from service.documents import ModelLabels, ServiceModel, ServiceModels, ServiceTags, ServiceVersion
from vggish.audio.sources import AudioSource
from vggish.errors import OptionError, ServiceError
from vggish.frames.clip import ClipFrames, frame_array
from vggish.params import VERSION

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_P = ParamSpec("_P")
_Result = TypeVar("_Result")


class _BaseClient:
    """The parts that both clients share; see `Client`."""

    _http_class: ClassVar[type[httpx.Client | httpx.AsyncClient]]
    _http: Any

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 120.0,
        retries: int = 4,
        retry_seconds: float = 60.0,
    ) -> None:
        self._policy = RetryPolicy(base_url.rstrip("/"), timeout_seconds, retries, retry_seconds)
        headers = {"User-Agent": f"audiotag/{VERSION}", "Accept": "application/json"}
        if api_key is not None:
            if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
                # The message does not contain the key.
                raise OptionError("an API key must be one line of ASCII. Received: something else")
            headers["Authorization"] = f"Bearer {api_key}"
        try:
            self._http = self._http_class(
                base_url=self._policy.url,
                headers=headers,
                timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, 10.0)),
                # A redirect would send the audio and the key to another host.
                follow_redirects=False,
            )
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
            raise OptionError(
                f"cannot use the proxy or the certificates named in the environment: {error}"
            ) from error

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._policy.url

    def _request(self, call: Call[Any]) -> httpx.Request:
        files = [(call.field, (f.file_name, f, "application/octet-stream")) for f in call.files]
        request: httpx.Request = self._http.build_request(
            call.method, call.path, params=call.params or None, files=files or None
        )
        return request


class Client(_BaseClient):
    """A client of an audiotag service; a context manager that threads can share.

    Args:
        base_url: address of the service, such as `http://127.0.0.1:8000`.
        api_key: API key, sent with every request.
        timeout_seconds: how long to wait until a piece of the body is taken, and for the response;
            at most ten seconds for a connection.
        retries: maximum number of further attempts after a temporary failure.
        retry_seconds: no attempt starts later than this after the first one; if the service asks
            for a longer pause, the request fails at once.

    Raises:
        OptionError: the address, the key or a number is invalid.
    """

    _http_class = httpx.Client
    _http: httpx.Client

    def classify(
        self, source: AudioSource, *, name: str | None = None, **options: Unpack[ClassifyArguments]
    ) -> ServiceTags:
        """Tag one clip.

        Args:
            source: path, "-" for standard input, bytes, or a binary file object, which is read
                from its position to its end and left open.
            name: name of the clip; the path by default. The service receives its last part.
            options: top_k (default 10), threshold, labels and exclude_labels, see
                `classifier.tags.choice.Choice`; frames, segments, tracks, model and stream, see
                `ClassifyArguments`.

        Raises:
            AudioError: the source cannot be read.
            ServiceError: the service refused the request or failed, or is not an audiotag
                service; the error has the status and the problem document.
            ServiceUnreachableError: there is no connection to the service.
            OptionError: an argument is invalid.
        """
        params = classify_params(**options)
        files = [open_audio_file(source, name)]
        return self._send(Call("POST", "/classify", ServiceTags.from_json, params, files))

    def classify_batch(
        self, sources: Sequence[AudioSource], **options: Unpack[ClassifyArguments]
    ) -> list[ServiceTags | ServiceError]:
        """Tag several clips in one request, at most as many as the service accepts.

        Args: see `classify`.

        Returns:
            Tags in the order of the sources, with an error in place of each clip that failed.

        Raises: see `classify`.
        """
        params = classify_params(**options)
        with ExitStack() as stack:  # closes the files if one of them cannot be opened
            files = [stack.enter_context(closing(open_audio_file(source))) for source in sources]
            if not files:
                raise OptionError("a batch needs at least one clip. Received: none")
            stack.pop_all()

        def read(found: Mapping[str, Any]) -> list[ServiceTags | ServiceError]:
            results = list(found["results"])
            if len(results) != len(files):
                raise ValueError(f"{len(results)} results for {len(files)} files")
            return [
                problem_error(each["problem"]) if "problem" in each else ServiceTags.from_json(each)
                for each in results
            ]

        return self._send(Call("POST", "/classify/batch", read, params, files, "files"))

    def embed(
        self, source: AudioSource, *, name: str | None = None, **options: Unpack[EmbedArguments]
    ) -> ClipFrames:
        """Compute the frames of one clip.

        Args:
            source: see `classify`.
            name: see `classify`.
            options: values, hop_seconds, tail, model and stream, see `EmbedArguments`.

        Raises: see `classify`.
        """
        values, hop_seconds = options.get("values", "uint8"), options.get("hop_seconds")
        stream = options.get("stream")

        def read(found: Mapping[str, Any]) -> ClipFrames:
            return ClipFrames(
                str(found["clip"]),
                frame_array(found["frames"], quantised=values == "uint8"),
                np.asarray(found["start_seconds"], np.float64),
                dict(found["metadata"]),
            )

        params = {
            "values": values,
            "hop_seconds": None if hop_seconds is None else str(hop_seconds),
            "tail": options.get("tail", "pad"),
            "model": options.get("model"),
            "stream": None if stream is None else str(stream),
        }
        files = [open_audio_file(source, name)]
        return self._send(Call("POST", "/embed", read, given(params), files))

    def models(self) -> tuple[ServiceModel, ...]:
        """List the models of the service. Raises: see `classify`."""
        return self._send(
            Call("GET", "/models", lambda found: ServiceModels.from_json(found).models)
        )

    def labels(self, model: str | None = None) -> Labels:
        """List the labels of a model, by default of the default model. Raises: see `classify`."""

        def read(found: Mapping[str, Any]) -> Labels:
            rows = sorted(ModelLabels.from_json(found).labels, key=lambda row: row.index)
            return Labels(tuple(row.label for row in rows), tuple(row.mid for row in rows))

        return self._send(Call("GET", "/labels", read, given({"model": model})))

    def version(self) -> ServiceVersion:
        """Get the versions of the service and of its API. Raises: see `classify`."""
        return self._send(Call("GET", "/version", ServiceVersion.from_json))

    def ready(self) -> bool:
        """Check, without retries, if the service accepts clips now. Raises: see `classify`."""
        return self._send(
            Call("GET", "/readyz", lambda found: bool(found["status"] == "ready"), is_probe=True)
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, call: Call[_Result]) -> _Result:
        attempts = Attempts(self._policy, call)
        with closing(call):
            while True:
                outcome: httpx.Response | httpx.RequestError
                try:
                    outcome = self._http.send(self._request(call))
                except httpx.RequestError as error:
                    outcome = error
                pause = attempts.pause_after(outcome)
                if pause is None:
                    return attempts.result(outcome)
                time.sleep(pause)


def _coroutine(
    method: Callable[Concatenate[Client, _P], _Result],
) -> Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _Result]]:
    """Make a method of `AsyncClient`, whose `_send` is a coroutine, from one of `Client`."""

    async def call(self: Any, /, *arguments: _P.args, **options: _P.kwargs) -> _Result:
        result: Any = method(self, *arguments, **options)
        return await result  # type: ignore[no-any-return]

    functools.update_wrapper(call, method)
    call.__doc__ = f"See `Client.{method.__name__}`."
    return call


class AsyncClient(_BaseClient):
    """`Client` for asynchronous code; the tasks of one event loop can share it.

    Args: see `Client`.
    """

    _http_class = httpx.AsyncClient
    _http: httpx.AsyncClient

    classify = _coroutine(Client.classify)
    classify_batch = _coroutine(Client.classify_batch)
    embed = _coroutine(Client.embed)
    models = _coroutine(Client.models)
    labels = _coroutine(Client.labels)
    version = _coroutine(Client.version)
    ready = _coroutine(Client.ready)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _send(self, call: Call[_Result]) -> _Result:
        attempts = Attempts(self._policy, call)
        with closing(call):
            while True:
                outcome: httpx.Response | httpx.RequestError
                request = self._request(call)
                if call.files:
                    request.stream = _ThreadedBody(request.stream)  # type: ignore[arg-type]
                try:
                    outcome = await self._http.send(request)
                except httpx.RequestError as error:
                    outcome = error
                pause = attempts.pause_after(outcome)
                if pause is None:
                    return attempts.result(outcome)
                await anyio.sleep(pause)


class _ThreadedBody(httpx.AsyncByteStream):
    """A body that is read in threads, so that a slow disk does not block the event loop."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(self._body)
        while (chunk := await anyio.to_thread.run_sync(next, chunks, None)) is not None:
            yield chunk
