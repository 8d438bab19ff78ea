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

import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from typing import Any

from db1 import pages
from db1.demo.brain import Brain
from db1.demo.feed import json_lines, message_of
from db1.errors import DataError, Db1Error, MissingExtra
from db1.json_shape import parse_json

logger = logging.getLogger(__name__)

MAX_UPLOAD = 10 * 2**20
"""Bytes of an image."""
MAX_JSON = 256 * 2**10
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


def make_app(brain: Brain) -> Any:
    """The ASGI application around a run.

    Raises:
        MissingExtra: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import JSONResponse, Response, StreamingResponse
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtra(error.name or "starlette", "demo", "db1 demo") from None

    acting = ThreadPoolExecutor(1, "acting")
    writing = ThreadPoolExecutor(_WRITING_THREADS, "writing")

    def page(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
        content = (files("db1.demo") / name).read_text(encoding="utf-8")
        if kind == "text/html":
            content = pages.page("db1", content, style_file="/page.css", script_file="/page.js")

        async def get(request: Request) -> Response:
            return Response(content, media_type=kind, headers=_HEADERS)

        return get

    async def about(request: Request) -> Response:
        return JSONResponse(brain.about())

    async def chat(request: Request) -> Response:
        asked = await _json(request)
        text = _value(asked, "text", str, "")
        temperature = float(_value(asked, "temperature", (int, float), 0.8))
        work = partial(brain.chat, text, temperature, _value(asked, "max_tokens", int, 100))
        return StreamingResponse(json_lines(work, writing), media_type="application/x-ndjson")

    async def caption(request: Request) -> Response:
        content = await _body(request, MAX_UPLOAD, "the image")
        return JSONResponse(await _in_thread(partial(brain.caption, content)))

    async def answer(request: Request) -> Response:
        content = await _body(request, MAX_UPLOAD, "the image")
        question = request.query_params.get("question", "")
        return JSONResponse(await _in_thread(partial(brain.answer, content, question)))

    async def act(request: Request) -> Response:
        asked = await _json(request)
        task = _value(asked, "task", str, "")
        work = partial(brain.act, task, _value(asked, "episode", int, 0))
        brain.check_idle()
        return StreamingResponse(json_lines(work, acting), media_type="application/x-ndjson")

    def local(endpoint: Callable[[Request], Awaitable[Response]]) -> Any:
        async def checked(request: Request) -> Response:
            origin = request.headers.get("origin")
            if origin is not None and origin != f"http://{request.headers.get('host')}":
                return JSONResponse({"error": "requests of other sites are refused"}, 403)
            try:
                return await endpoint(request)
            except ClientDisconnect:
                return Response(status_code=_LEFT)  # nobody reads it
            except Db1Error as error:
                return JSONResponse({"error": message_of(error)}, 400)

        return checked

    posts = {"chat": chat, "caption": caption, "answer": answer, "act": act}
    return Starlette(
        routes=[
            *(Route(path, page(*content)) for path, content in _PAGES.items()),
            Route("/api/about", local(about)),
            *(Route(f"/api/{n}", local(post), methods=["POST"]) for n, post in posts.items()),
        ],
        middleware=[
            Middleware(partial(_Quiet, left=ClientDisconnect)),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)),
        ],
    )


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
        raise DataError("the request is no JSON object")
    return found


def _value(asked: dict[str, Any], key: str, kind: Any, default: Any) -> Any:
    value = asked.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{key}: got {value!r}, which is of another type than {default!r}")
    return value
