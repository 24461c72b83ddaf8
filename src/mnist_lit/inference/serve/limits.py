"""What a request may cost, and where it may come from: one ASGI middleware around the whole application.

Refuses foreign hosts (DNS rebinding), other sites' posts, and bodies that are too large, too slow or too many at once.
Whatever else goes wrong inside is a line to the client, and one to stderr that says where.
"""

import asyncio
import contextlib
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "Guard", "Limits"]

LOCAL = ("localhost", "127.0.0.1", "::1")
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+))(?::\d+)?", re.IGNORECASE)
HARMLESS = ("GET", "HEAD", "OPTIONS")
LINGER = 0.5  # seconds that a refused upload is still taken in and dropped, so that its sender gets to see the answer
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class Limits(NamedTuple):
    """What all requests, and each of them, may take."""

    body: int = 20 << 20  # bytes
    bodies: int = 200 << 20  # bytes of all bodies under way
    seconds: int = 15  # for a body to arrive in
    threads: int = 2  # that read pictures
    waiting: int = 64  # requests, for a thread


class Guard:
    """Stands before the application. Its `state.closing` makes every answer the last of its connection."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], limits: Limits) -> None:
        self.app, self.limits = app, limits
        self.hosts = {host.lower() for host in (*LOCAL, *hosts)}
        self.held = 0  # bytes of bodies under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request; let the application answer the others, with every answer's headers added."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, Headers(scope=scope), self)
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if not body.ended or scope["app"].state.closing:
                    headers["connection"] = "close"
            elif not body.ended and not message.get("more_body"):
                await send({**message, "more_body": True})
                await body.drop()
                message = {"type": "http.response.body"}
            await send(message)

        refusal = self._refusal(scope)
        app = JSONResponse({"detail": refusal[1]}, refusal[0]) if refusal else self.app
        try:
            await app(scope, body.receive, answer)
        except Exception as error:
            if begun:
                raise
            print(_told(scope, error), file=sys.stderr, flush=True)
            await JSONResponse({"detail": "the server failed at this; its log says where"}, 500)(scope, receive, answer)
        finally:
            self.held -= body.held

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        named = HOST.fullmatch(host)
        name = (named[1] or named[2]).rstrip(".") if named else ""
        came_to = (scope.get("server") or ("",))[0]  # the address of this machine that the client connected to
        if not name or name not in {*self.hosts, came_to}:
            return 421, "this server has no such name; --allowed_host NAME gives it one"
        if scope["method"] not in HARMLESS:
            origin = headers.get("origin")
            site = headers.get("sec-fetch-site", "none")
            own = origin is None or origin.lower() in (f"http://{host}", f"https://{host}")
            if not own or site not in ("same-origin", "none"):
                return 403, "other sites' pages may not post here"
        if int(headers.get("content-length", 0)) > self.limits.body:
            return 413, _too_large(self.limits.body)
        return None


def _told(scope: Scope, error: Exception) -> str:
    """One line for the log: what was asked, what went wrong and where."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(repr(error).split())
    return f"mnist-lit: {scope['method']} {scope['path']!r}: {what} at {Path(at.filename).name}:{at.lineno}"


def _too_large(limit: int) -> str:
    """What a sender of more is told."""
    return f"expected at most {limit >> 20} MiB"


class _Body:
    """A request's body on its way in, counted and timed."""

    def __init__(self, receive: Receive, headers: Headers, guard: Guard) -> None:
        self._receive, self._guard = receive, guard
        self._deadline = asyncio.get_running_loop().time() + guard.limits.seconds
        self.held = 0
        self.ended = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"

    async def receive(self) -> Message:
        """The next message. Raises HTTPException once the body is too large or too late, or all bodies are."""
        if self.ended:
            return await self._receive()
        limits = self._guard.limits
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._next()
        except TimeoutError as error:
            raise HTTPException(408, f"the request took longer than {limits.seconds} s to arrive") from error
        size = len(message.get("body", b""))
        self.held += size
        self._guard.held += size
        if self.held > limits.body:
            raise HTTPException(413, _too_large(limits.body))
        if self._guard.held > limits.bodies:
            raise HTTPException(503, "too many uploads at once; try again", {"retry-after": "1"})
        return message

    async def drop(self) -> None:
        """Take in the rest for a moment, and forget it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not self.ended:
                    await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self.ended = not message.get("more_body", False)
        return message
