"""The page's web application, for one person on this machine.

    GET  /                      the page; its script and style come from here too, nothing from afar
    GET  /api/about             what the run can do
    POST /api/chat              {"text", "temperature", "max_tokens"} -> lines {"text"}, {"over"}
    POST /api/caption           bytes of an image -> {"caption", "notes"}
    POST /api/answer?question=  bytes of an image -> {"answer", "notes"}
    POST /api/act               {"task", "episode"} -> lines {"frame", ...}, {"over", ...}

Requests that name another host or come from another site's page are refused, so that no web page
elsewhere can use the run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from typing import Any

from db1 import pages
from db1.demo.feed import json_lines, message_of
from db1.demo.session import DemoSession
from db1.errors import DataError, Db1Error, MissingExtra
from db1.json_shape import parse_json

logger = logging.getLogger(__name__)

MAX_UPLOAD = 10 * 2**20
"""Bytes of an image."""
MAX_JSON = 256 * 2**10
PATIENCE = 10.0
"""Seconds that an episode waits for one whose reader has left."""
_WRITING_THREADS = 4
_LEFT = 499
"""Status of a request whose client went away (nginx's number)."""

HOSTS = ("127.0.0.1", "localhost")
_PAGES = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript"),
          "/page.css": ("page.css", "text/css")}  # fmt: skip
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Endpoint = Callable[[Any], Awaitable[Any]]
"""Takes a request, gives a response."""


def make_app(session: DemoSession) -> Any:
    """The ASGI application around a run.

    Raises:
        MissingExtra: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import ClientDisconnect
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtra(error.name or "starlette", "demo", "db1 demo") from None

    ends = _Endpoints(session)
    posts = {"chat": ends.chat, "caption": ends.caption, "answer": ends.answer, "act": ends.act}
    return Starlette(
        routes=[
            *(Route(path, _page(*content)) for path, content in _PAGES.items()),
            Route("/api/about", _local(ends.about)),
            *(Route(f"/api/{n}", _local(post), methods=["POST"]) for n, post in posts.items()),
        ],
        middleware=[
            Middleware(partial(_Quiet, left=ClientDisconnect)),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)),
        ],
    )


class _Endpoints:
    """Requests of the page on their way to the run and back, in threads."""

    def __init__(self, session: DemoSession) -> None:
        self._session = session
        self._acting = ThreadPoolExecutor(1, "acting")
        self._writing = ThreadPoolExecutor(_WRITING_THREADS, "writing")

    async def about(self, request: Any) -> Any:
        """Abilities of the run."""
        return _json_response(self._session.about())

    async def chat(self, request: Any) -> Any:
        """Text after a conversation, piece by piece."""
        asked = await _json(request)
        text = _value(asked, "text", str, "")
        temperature = float(_value(asked, "temperature", (int, float), 0.8))
        max_tokens = _value(asked, "max_tokens", int, 100)
        return _lines(partial(self._session.chat, text, temperature, max_tokens), self._writing)

    async def caption(self, request: Any) -> Any:
        """A caption of the image that was sent."""
        content = await _body(request, MAX_UPLOAD, "the image")
        return _json_response(await _in_thread(partial(self._session.caption, content)))

    async def answer(self, request: Any) -> Any:
        """An answer to a question about the image that was sent."""
        content = await _body(request, MAX_UPLOAD, "the image")
        question = request.query_params.get("question", "")
        return _json_response(await _in_thread(partial(self._session.answer, content, question)))

    async def act(self, request: Any) -> Any:
        """An episode, frame by frame."""
        asked = await _json(request)
        task = _value(asked, "task", str, "")
        work = partial(self._session.act, task, _value(asked, "episode", int, 0))
        await self._wait_for_stage()
        return _lines(work, self._acting)

    async def _wait_for_stage(self) -> None:
        """Waits for an episode whose reader has left to end; refuses while one goes on."""
        until = time.monotonic() + PATIENCE
        while self._session.is_acting and time.monotonic() < until:
            await asyncio.sleep(0.1)
        self._session.check_idle()


def _page(name: str, kind: str) -> Endpoint:
    """Gives out a file of the page."""
    from starlette.responses import Response

    content = (files("db1.demo") / name).read_text(encoding="utf-8")
    if kind == "text/html":
        content = pages.page("db1", content, style_file="/page.css", script_file="/page.js")

    async def get(request: Any) -> Any:
        return Response(content, media_type=kind, headers=_HEADERS)

    return get


def _local(endpoint: Endpoint) -> Endpoint:
    """An endpoint that refuses other sites, and whose errors are answers."""
    from starlette.requests import ClientDisconnect
    from starlette.responses import Response

    async def checked(request: Any) -> Any:
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{request.headers.get('host')}":
            return _json_response({"error": "requests of other sites are refused"}, 403)
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=_LEFT)  # nobody reads it
        except Db1Error as error:
            return _json_response({"error": message_of(error)}, 400)

    return checked


def _json_response(content: Any, status: int = 200) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status)


def _lines(work: Callable[..., None], pool: ThreadPoolExecutor) -> Any:
    from starlette.responses import StreamingResponse

    return StreamingResponse(json_lines(work, pool), media_type="application/x-ndjson")


class _Quiet:
    """Ends a request without a word when its client leaves while it is answered.

    Args:
        app: The application inside.
        left: What is raised then.
    """

    def __init__(self, app: Any, left: type[Exception]) -> None:
        self._app, self._left = app, left

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except (self._left, ConnectionError):
            logger.debug("a client left before its answer was complete")


async def _in_thread(work: Callable[[], Any]) -> Any:
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(work)


async def _body(request: Any, limit: int, what: str) -> bytes:
    """The bytes that were sent, never more than `limit` of them in memory."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise DataError(f"{what}: more than {limit / 2**20:.3g} MiB, expected less; shrink it")
        parts.append(part)
    return b"".join(parts)


async def _json(request: Any) -> dict[str, Any]:
    try:
        found = parse_json(await _body(request, MAX_JSON, "the request"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError("the request is not a JSON object")
    return found


def _value(asked: dict[str, Any], key: str, kind: Any, default: Any) -> Any:
    value = asked.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{key}: got {value!r}, which is of another type than {default!r}")
    return value
