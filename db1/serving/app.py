"""The web application of a policy server.

    POST   /sessions                {"task", "seed", "instruction"} -> {"session", "task", "spec"}
    POST   /sessions/ID/act         {"observation"} -> {"action", "probabilities"}
    POST   /sessions/ID/reset       {"seed"} -> {}
    DELETE /sessions/ID             -> {}
    WS     /stream                  {"do": "open" | "act" | "reset" | "close", ...} -> the same
    GET    /health                  {"status", "model", "sessions", ...}
    GET    /metrics                 text for Prometheus

Bodies are JSON, or msgpack where the request says so (`wire.py`). Errors are {"error"} with status
400 (bad input), 401 (no or a wrong token), 404 (no such session), 409 (the session is at work), 413
(too large), 503 with Retry-After (no room).
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from db1.errors import DataError, Db1Error, MissingExtra
from db1.serving.metrics import ServerMetrics
from db1.serving.sessions import Busy, Service, UnknownSession
from db1.serving.wire import JSON, MSGPACK, dump, parse

MAX_BODY = 8 * 2**20
"""Bytes of a request."""
RETRY_AFTER = 5
"""Seconds after which a client that was refused may try again."""
_REAP_EVERY = 1.0
_SETTINGS: Mapping[str, tuple[type, ...]] = {
    "instruction": (str,),
    "greedy": (bool,),
    "temperature": (float, int),
    "memory": (int,),
}
"""Keys of a request that opens a session, besides the task and the seed, with their types."""


def make_app(
    service: Service, metrics: ServerMetrics, about: Mapping[str, Any], token: str | None = None,
    default_task: str | None = None,
) -> Any:  # fmt: skip
    """The ASGI application around a service.

    Args:
        service: Sessions.
        metrics: What is counted.
        about: What `/health` says of the model.
        token: Clients must send it as `Authorization: Bearer TOKEN`; None: nobody need.
        default_task: Of sessions that name none.

    Raises:
        MissingExtra: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.routing import Route, WebSocketRoute
    except ImportError as error:
        raise MissingExtra(error.name or "starlette", "serve", "db1 serve") from None

    ends = _Endpoints(Desk(service, metrics, default_task), service, metrics, about, token)

    def change(path: str, what: str, method: str = "POST") -> Route:
        return Route(path, ends.guarded(partial(ends.do, what=what)), methods=[method])

    return Starlette(
        routes=[
            change("/sessions", "open"),
            change("/sessions/{id}/act", "act"),
            change("/sessions/{id}/reset", "reset"),
            change("/sessions/{id}", "close", "DELETE"),
            Route("/health", ends.health),
            Route("/metrics", ends.guarded(ends.show_metrics)),
            WebSocketRoute("/stream", ends.stream),
        ],
        lifespan=ends.lifespan,
    )


class _Endpoints:
    """Requests and messages of Starlette on their way to the desk and back, in threads.

    Args:
        desk: Does what they ask for.
        service, metrics, about, token: As of `make_app`.
    """

    def __init__(
        self,
        desk: Desk,
        service: Service,
        metrics: ServerMetrics,
        about: Mapping[str, Any],
        token: str | None,
    ) -> None:
        self._desk = desk
        self._service = service
        self._metrics = metrics
        self._about = about
        self._token = token
        self._pool = ThreadPoolExecutor(service.config.max_sessions + 4, "session")

    def guarded(self, endpoint: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """An endpoint that wants the token, and whose errors are answers."""

        async def checked(request: Any) -> Any:
            media_type = MSGPACK if request.headers.get("content-type") == MSGPACK else JSON
            try:
                if not self._lets_in(request):
                    return _response({"error": "a wrong token, or none"}, JSON, 401)
                return await endpoint(request)
            except Db1Error as error:
                status = _status(error)
                self._metrics.refused(_REASONS.get(status, "input"))
                return _response({"error": str(error)}, media_type, status)

        return checked

    async def do(self, request: Any, what: str) -> Any:
        """Opens, acts in, resets or closes a session."""
        content, media_type = await _content_of(request)
        named = {"session": request.path_params["id"]} if "id" in request.path_params else {}
        work = partial(self._desk.do, what, {**content, **named})
        return _response(await self._in_thread(work), media_type)

    async def health(self, request: Any) -> Any:
        """Liveness of the server, and its model; needs no token."""
        return _response({"status": "ok", "sessions": len(self._service), **self._about}, JSON)

    async def show_metrics(self, request: Any) -> Any:
        """Counts and times for Prometheus."""
        from starlette.responses import Response

        text = await self._in_thread(lambda: self._metrics.text(len(self._service)))
        return Response(text, media_type="text/plain; version=0.0.4")

    async def stream(self, socket: Any) -> None:
        """Answers the messages of a WebSocket; its sessions end with it."""
        from starlette.websockets import WebSocketDisconnect

        if not self._lets_in(socket):
            await socket.close(4401)
            return
        await socket.accept()
        opened: set[str] = set()
        try:
            while (message := await socket.receive())["type"] != "websocket.disconnect":
                if (text := message.get("text")) is not None:
                    work = partial(self._desk.reply, text.encode("utf-8"), JSON, opened)
                    await socket.send_text((await self._in_thread(work)).decode("utf-8"))
                else:
                    work = partial(self._desk.reply, message["bytes"], MSGPACK, opened)
                    await socket.send_bytes(await self._in_thread(work))
        except WebSocketDisconnect:
            pass
        finally:
            for session in opened:
                with suppress(UnknownSession):
                    self._service.close(session)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Ends silent sessions while the server lives, then the threads."""
        reaper = asyncio.create_task(_reap(self._service, self._metrics))
        yield
        reaper.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _lets_in(self, request: Any) -> bool:
        """Tells whether a request or a socket has the token, and counts those without."""
        if _is_allowed(request.headers.get("authorization"), self._token):
            return True
        self._metrics.refused("token")
        return False

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


async def _content_of(request: Any) -> tuple[dict[str, Any], str]:
    """The fields of a request's body, and its format."""
    media_type = request.headers.get("content-type", JSON).partition(";")[0]
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise TooLarge(f"the request has over {MAX_BODY:,} bytes")
    chosen = MSGPACK if media_type == MSGPACK else JSON
    return parse(bytes(body), chosen), chosen


def _response(content: Any, media_type: str, status: int = 200) -> Any:
    from starlette.responses import Response

    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else None
    return Response(dump(content, media_type), status, headers, media_type)


class TooLarge(DataError):
    """A request with too many bytes."""


class Desk:
    """Does what a request asks for; runs in a thread of its own for each.

    Args:
        service: Sessions.
        metrics: What is counted.
        default_task: Of sessions that name none.
    """

    def __init__(self, service: Service, metrics: ServerMetrics, default_task: str | None) -> None:
        self._service = service
        self._metrics = metrics
        self._default_task = default_task

    def do(self, what: Any, content: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request.

        Args:
            what: `open`, `act`, `reset` or `close`.
            content: Its fields.

        Raises:
            Db1Error: For what cannot be done.
        """
        if what not in ("open", "act", "reset", "close"):
            raise DataError(f"do: got {what!r}, expected open, act, reset or close")
        return getattr(self, f"_{what}")(content)

    def reply(self, body: bytes, media_type: str, opened: set[str]) -> bytes:
        """The answer to a message of a stream; errors are answers, too.

        Args:
            body: The message.
            media_type: Its format.
            opened: Sessions of the stream; those opened and closed are entered and taken out.
        """
        try:
            if len(body) > MAX_BODY:
                raise TooLarge(f"the message has over {MAX_BODY:,} bytes")
            content = parse(body, media_type)
            what = content.get("do")
            result = self.do(what, content)
        except Db1Error as error:
            self._metrics.refused(_REASONS.get(_status(error), "input"))
            return dump({"error": str(error), "status": _status(error)}, media_type)
        if what == "open":
            opened.add(result["session"])
        elif what == "close":
            opened.discard(str(content.get("session")))
        return dump(result, media_type)

    def _open(self, content: Mapping[str, Any]) -> dict[str, Any]:
        task = content.get("task") or self._default_task
        if not isinstance(task, str):
            raise DataError("task: missing, name one as suite/task")
        settings = {key: content[key] for key in _SETTINGS if content.get(key) is not None}
        _check_settings(settings)
        session = self._service.open(task, _seed(content), settings)
        self._metrics.opened()
        return {"session": session.id, "task": task, "spec": session.spec.to_dict()}

    def _act(self, content: Mapping[str, Any]) -> dict[str, Any]:
        started = time.monotonic()
        observation = content.get("observation")
        action, kept = self._service.act(str(content.get("session")), observation)
        self._metrics.acted(time.monotonic() - started)
        wants = content.get("probabilities") is True and kept is not None
        return {"action": action, **({"probabilities": kept} if wants else {})}

    def _reset(self, content: Mapping[str, Any]) -> dict[str, Any]:
        self._service.reset(str(content.get("session")), _seed(content))
        return {}

    def _close(self, content: Mapping[str, Any]) -> dict[str, Any]:
        self._service.close(str(content.get("session")))
        self._metrics.closed("client")
        return {}


_REASONS = {401: "token", 404: "session", 409: "busy", 413: "size", 503: "room"}
"""Labels of refusals in the metrics, by status."""


def _status(error: Db1Error) -> int:
    if isinstance(error, UnknownSession):
        return 404
    if isinstance(error, TooLarge):
        return 413
    if isinstance(error, Busy):
        return 503 if "sessions are open" in str(error) else 409
    return 400


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Raises DataError for a setting of another type than it has."""
    for key, value in settings.items():
        kinds = _SETTINGS[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise DataError(f"{key}: got {value!r}, expected {names}")


def _seed(content: Mapping[str, Any]) -> int:
    seed = content.get("seed", 0)
    if type(seed) is not int or seed < 0:
        raise DataError(f"seed: got {seed!r}, expected a whole number of at least 0")
    return seed


def _is_allowed(header: str | None, token: str | None) -> bool:
    """Tells whether a request has the token; compared in constant time."""
    if token is None:
        return True
    given = (header or "").removeprefix("Bearer ").encode("utf-8")
    return hmac.compare_digest(given, token.encode("utf-8"))


async def _reap(service: Service, metrics: ServerMetrics) -> None:
    """Ends silent sessions, again and again."""
    while True:
        await asyncio.sleep(min(_REAP_EVERY, service.config.idle_seconds / 4))
        for _ in range(service.close_silent()):
            metrics.closed("silence")
