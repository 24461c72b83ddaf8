"""What a request may cost and where it may come from: one ASGI middleware around the whole application.

By hand, because every refusal must be one line of JSON with our headers, and Starlette's own middleware
- `TrustedHostMiddleware` refuses in plain text with 400 and cannot allow the address that a client connected to;
- `RequestBodyLimitMiddleware` refuses in plain text without naming the limit, and the bytes are counted here anyway;
- has no deadline for one body and no limit for all bodies together.
"""

import asyncio
import contextlib
import re
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_lit.inference.serve.metrics import Metrics

LOCALHOST = ("localhost", "127.0.0.1", "::1")
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+))(?::\d+)?", re.IGNORECASE)  # [IPv6] or name, then a port
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LINGER = 0.5  # seconds for which the rest of a refused upload is received and dropped
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
    """Limits of one request and of all requests together."""

    body: int = 20 << 20  # bytes of one body
    bodies: int = 200 << 20  # bytes of all bodies in progress
    seconds: float = 15  # for a body to arrive
    threads: int = 2  # that read pictures
    waiting: int = 64  # requests in line for a thread

    @property
    def too_large(self) -> str:
        """The message for a larger body."""
        return f"expected a body of at most {self.body >> 20} MiB"


class GuardMiddleware:
    """Refuses requests over the limits or from other sites, adds HEADERS, counts, and reports errors in one line.

    With `app.state.closing` set, every response closes its connection.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], limits: Limits, metrics: Metrics) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self.hosts = {host.lower() for host in (*LOCALHOST, *hosts)}
        self.bytes_held = 0  # of all bodies in progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, Headers(scope=scope), self)
        begun, status = time.perf_counter(), 0  # 0 until the response starts

        # A connection that is closed while the client still sends makes its kernel reset the connection, and the
        # client loses the response (RFC 9112, section 9.6). So a refusal holds back its last message while the rest
        # of the body is received and dropped, for a moment only: the client may never stop.
        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if not body.complete or scope["app"].state.closing:
                    headers["connection"] = "close"
            elif not body.complete and not message.get("more_body"):
                await send({**message, "more_body": True})
                await body.drop()
                message = {"type": "http.response.body"}
            await send(message)

        refusal = self._refusal(scope)
        app = JSONResponse({"detail": refusal[1]}, refusal[0]) if refusal else self.app
        try:
            await app(scope, body.receive, send_with_headers)
        except Exception as error:
            if status:
                raise
            print(_log_line(scope, error), file=sys.stderr, flush=True)
            failure = JSONResponse({"detail": "internal error; the server's log shows where"}, 500)
            await failure(scope, receive, send_with_headers)
        finally:
            self.bytes_held -= body.size
            self.metrics.count_request(scope["path"], status or 500, time.perf_counter() - begun)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and message if the request's headers are enough to refuse it.

        DNS rebinding: another site's page can point its own name at this machine, and the browser then treats our
        responses as that site's. The Host header still holds the foreign name, so only known names are served. Posts
        from other sites (CSRF) are recognized by Origin and Sec-Fetch-Site, which pages cannot forge.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        match = HOST.fullmatch(host)
        name = (match[1] or match[2]).rstrip(".") if match else ""
        own_address = (scope.get("server") or ("",))[0]
        if not name or name not in {*self.hosts, own_address}:
            return 421, "unknown host name; start the server with --allowed_host NAME to allow it"
        if scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin")
            same_origin = origin is None or origin.lower() in (f"http://{host}", f"https://{host}")
            if not same_origin or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
                return 403, "expected a request from this server's own page, got one from another site"
        if int(headers.get("content-length", 0)) > self.limits.body:
            return 413, self.limits.too_large
        return None


class _Body:
    """A request's body on its way in, counted and timed."""

    def __init__(self, receive: Receive, headers: Headers, guard: GuardMiddleware) -> None:
        self._receive, self._guard = receive, guard
        self._deadline = asyncio.get_running_loop().time() + guard.limits.seconds
        self.size = 0  # bytes received
        self.complete = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"

    async def receive(self) -> Message:
        """The next message. Raises HTTPException when the body is too large or too late, or all bodies too large."""
        if self.complete:
            return await self._receive()
        limits = self._guard.limits
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, f"expected the body within {limits.seconds} s") from error
        self.complete = not message.get("more_body")
        size = len(message.get("body", b""))
        self.size += size
        self._guard.bytes_held += size
        if self.size > limits.body:
            raise HTTPException(413, limits.too_large)
        if self._guard.bytes_held > limits.bodies:
            raise HTTPException(503, "too many uploads at once; try again", {"retry-after": "1"})
        return message

    async def drop(self) -> None:
        """Receive the rest for a moment and forget it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not self.complete:
                    self.complete = not (await self._receive()).get("more_body")


def _log_line(scope: Scope, error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    one_line = " ".join(repr(error).split())
    return f"mnist-lit: {scope['method']} {scope['path']!r}: {one_line} at {Path(frame.filename).name}:{frame.lineno}"
