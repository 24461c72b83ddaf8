"""uvicorn with what its settings cannot do. All use of its undocumented API is here, checked against uvicorn 0.54.0.

`timeout_keep_alive` and `timeout_graceful_shutdown` are uvicorn's own, and h11 limits an incomplete head to 16 KiB.
This module adds what uvicorn has no setting for, or answers in plain text without our headers:
- a deadline for a request's head: `timeout_keep_alive` starts only after the first response;
- a deadline for a response that nobody reads;
- too many connections: `limit_concurrency` answers in plain text and logs every refusal;
- invalid HTTP: `send_400_response` answers in plain text;
- requests that arrive while the server shuts down: uvicorn closes idle connections at once."""

import asyncio
import logging
import signal
import socket
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from mnist_lit.inference.serve.guard import HEADERS

MAX_CONNECTIONS = 800  # most systems let a process open 1,024 files
GRACE = 1.0  # seconds at shutdown in which an open connection may send one more request
SHUTDOWN_TIMEOUT = 30  # seconds for responses in progress at shutdown
CLOSING = {**HEADERS, "connection": "close"}
INVALID = JSONResponse({"detail": "invalid HTTP request"}, 400, CLOSING)
BUSY = JSONResponse({"detail": "too many connections at once; try again"}, 503, {**CLOSING, "retry-after": "1"})


class Connection(H11Protocol):
    """A client's connection, which either of two timers closes after `timeout_keep_alive` seconds."""

    _head_timer: asyncio.TimerHandle | None = None  # from the connection, or a later request's first bytes, to its head
    _read_timer: asyncio.TimerHandle | None = None  # while a response is unread; restarts when the client reads some

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # `pause_writing` is then called for any unread byte
        if len(self.connections) > MAX_CONNECTIONS:  # 0.54.0: the set of open connections
            self.app = BUSY  # 0.54.0: the ASGI application that `handle_events` calls
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in filter(None, (self._head_timer, self._read_timer)):
            timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(0)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._read_timer:
            self._read_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        if not self.cycle or self.cycle.response_complete or not self.cycle.response_started:  # 0.54.0
            head = b"".join(b"%s: %s\r\n" % header for header in INVALID.raw_headers)
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%s\r\n%s" % (head, INVALID.body))
            self.config.app.state.metrics.count_request("", 400, 0)  # type: ignore[union-attr]  # its path is unknown
        self.transport.close()

    def _watch_head(self) -> None:
        if self.cycle and not self.cycle.response_complete:  # 0.54.0: a request is being answered
            if self._head_timer:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _watch_reader(self, unread_before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread == unread_before:
            return self.transport.abort()
        self._read_timer = self.loop.call_later(self.timeout_keep_alive, self._watch_reader, unread)


class Server(uvicorn.Server):
    """Serves an application. seconds: how long a connection may be idle, and a request's head may take to arrive.
    access_log: print a line for each response."""

    def __init__(self, app: FastAPI, *, seconds: int, access_log: bool = False) -> None:
        self.app = app
        # "error": a client causes a warning with each upgrade or invalid request, and could fill the log.
        config = uvicorn.Config(app, http=Connection, ws="none", log_level="error", access_log=access_log)
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)  # 0.54.0: `log_level` sets this one, too
        config.server_header = config.proxy_headers = False  # 0.54.0: read when the server starts
        config.timeout_keep_alive, config.timeout_graceful_shutdown = seconds, SHUTDOWN_TIMEOUT
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second Ctrl-C cancels the responses in progress; uvicorn would log the traceback of each."""
        if self.should_exit and sig == signal.SIGINT:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no new connections, let the open ones get their responses, then shut down as uvicorn does."""
        self.app.state.closing = True
        for server in self.servers:  # 0.54.0: the listening asyncio servers
            server.close()
        deadline = time.monotonic() + GRACE
        while self.server_state.connections and time.monotonic() < deadline:  # 0.54.0
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
