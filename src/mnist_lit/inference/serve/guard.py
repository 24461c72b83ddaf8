"""Limits on the size, time and origin of requests: one ASGI middleware around the whole application.

Our own, because every refusal must be one line of JSON with our headers. Starlette's `TrustedHostMiddleware` and
`RequestBodyLimitMiddleware` refuse in plain text; the first cannot allow the address that a client connected to, the
second does not name the limit, and neither has a deadline for one body or a limit for all bodies together."""

import asyncio
import contextlib
import re
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_lit.inference.serve.limits import Limits
from mnist_lit.inference.serve.metrics import Metrics
from mnist_lit.system.console import say

HEAD = 16 << 10  # bytes of a request's head; h11 checks its own limit, the same, only while a head is incomplete
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+))(?::\d+)?", re.IGNORECASE)  # [IPv6] or name, then a port
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


class GuardMiddleware:
    """Refuses requests over the limits or from other sites, adds HEADERS, counts, and reports errors in one line."""

    def __init__(
        self, app: ASGIApp, *, hosts: Sequence[str], origins: Sequence[str], limits: Limits, metrics: Metrics
    ) -> None:
        self.app, self.origins, self.limits, self.metrics = app, origins, limits, metrics
        self.hosts = {host.lower() for host in ("localhost", "127.0.0.1", "::1", *hosts)}
        self.too_large = f"expected a body of at most {limits.body >> 20} MiB"
        self.bytes_held = 0  # of all bodies in progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers, deadline = Headers(scope=scope), asyncio.get_running_loop().time() + self.limits.seconds
        received_all = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        begun, size, status = time.perf_counter(), 0, 0  # the body's bytes so far; the response's, once it starts
        withheld = False  # the response's last message

        async def receive_limited() -> Message:
            nonlocal received_all, size
            if received_all:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, f"expected the body within {self.limits.seconds} s") from error
            received_all = not message.get("more_body")
            length = len(message.get("body", b""))
            size += length
            self.bytes_held += length
            if size > self.limits.body:
                raise HTTPException(413, self.too_large)
            if self.bytes_held > self.limits.bodies:
                raise HTTPException(503, "too many uploads at once; try again", {"retry-after": "1"})
            return message

        # A connection that is closed while the client still sends makes its kernel reset the connection, and the
        # client loses the response (RFC 9112, section 9.6). So a refusal withholds its last message while the rest of
        # the body is received and dropped, for a moment only: the client may never stop. The body's memory is
        # free by then, or one upload above the limit of all would refuse the others, too.
        async def send_with_headers(message: Message) -> None:
            nonlocal status, withheld
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if not received_all or scope["app"].state.closing:  # set while the server shuts down
                    headers["connection"] = "close"
            elif not received_all and not message.get("more_body"):
                message, withheld = {**message, "more_body": True}, True
            await send(message)

        refusal = self._refusal(scope, headers)
        app = JSONResponse({"detail": refusal[1]}, refusal[0]) if refusal else self.app
        try:
            await app(scope, receive_limited, send_with_headers)
        except Exception as error:
            if status:
                raise
            frame, text = traceback.extract_tb(error.__traceback__)[-1], " ".join(repr(error).split())
            where = f"{scope['method']} {scope['path']!r}: {text} at {Path(frame.filename).name}:{frame.lineno}"
            say(f"mnist-lit: {where}", file=sys.stderr, flush=True)
            failure = JSONResponse({"detail": "internal error; the server's log shows where"}, 500)
            await failure(scope, receive, send_with_headers)
        finally:
            self.bytes_held -= size
            self.metrics.count_request(scope["path"], status or 500, time.perf_counter() - begun)
        if withheld:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    while (await receive()).get("more_body"):
                        pass
            await send({"type": "http.response.body"})

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and message if the request's headers are enough to refuse it.

        DNS rebinding: another site's page can point its own name at this machine, and the browser then treats our
        responses as that site's. The Host header still holds the foreign name, so only known names are served. Posts
        from other sites (CSRF) are recognized by Origin and Sec-Fetch-Site, which pages cannot forge."""
        head = len(scope["raw_path"]) + len(scope["query_string"])
        if head + sum(len(name) + len(value) + 4 for name, value in headers.raw) > HEAD:
            return 400, f"expected request headers of at most {HEAD >> 10} KiB"
        if "content-length" in headers and "transfer-encoding" in headers:  # RFC 9112, section 6.1: request smuggling
            return 400, "expected content-length or transfer-encoding, got both"
        host = headers.get("host", "").lower()
        match = HOST.fullmatch(host)
        name = (match[1] or match[2]).removesuffix(".") if match else ""
        own_address = (scope.get("server") or ("",))[0]
        if not name or name not in {*self.hosts, own_address}:
            return 421, f"unknown host name {host[:100]!r}; start the server with --allowed_host NAME to allow it"
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            origin = headers.get("origin", f"http://{host}").lower()
            same_site = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
            own = same_site and origin in (f"http://{host}", f"https://{host}")
            if not own and origin not in self.origins:
                return 403, "expected a request from this server's own page; --allow_origin ORIGIN allows another site"
        if (length := int(headers.get("content-length", 0))) > self.limits.body:
            return 413, f"{self.too_large}, got {length:,} bytes"
        return None
