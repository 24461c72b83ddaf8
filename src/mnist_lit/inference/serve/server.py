"""uvicorn, taught to wait for no client, to refuse as the rest does, and to lose no request at the end."""

import asyncio
import socket
import time

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from mnist_lit.inference.serve.limits import HEADERS

__all__ = ["Connection", "Server"]

CONNECTIONS = 800  # at a time; most systems let a process open 1,024 files
GRACE = 1.0  # seconds at the end in which an open connection may still ask once
PATIENCE = 30  # seconds for the answers under way at the end
CLOSING = {**HEADERS, "connection": "close"}
BUSY = JSONResponse({"detail": "too many connections at once; try again"}, 503, {**CLOSING, "retry-after": "1"})


class Connection(H11Protocol):
    """A client's connection. As long as it may be idle, so long may a head take to come, and an answer lie untaken."""

    _timer: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock starts."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that `pause_writing` tells of all that is not taken
        if len(self.connections) > CONNECTIONS:
            self.app = BUSY
        self._watch()

    def data_received(self, data: bytes) -> None:
        """The clock stops with a whole head, and starts again with the first bytes of the next."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The clocks stop."""
        super().connection_lost(exc)
        self._stop()
        self._taken()

    def pause_writing(self) -> None:
        """Another clock starts: some of an answer is not taken yet."""
        super().pause_writing()
        self._look(0)

    def resume_writing(self) -> None:
        """It stops: all is taken."""
        super().resume_writing()
        self._taken()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, where no answer is under way, and hang up."""
        if not self.cycle or self.cycle.response_complete or not self.cycle.response_started:
            said = JSONResponse({"detail": msg}, 400, CLOSING)
            head = b"".join(b"%s: %s\r\n" % header for header in said.raw_headers)
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%s\r\n%s" % (head, said.body))
        self.transport.close()

    def _watch(self) -> None:
        if self.cycle and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _look(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left == before:
            self.transport.abort()
        else:
            self._taking = self.loop.call_later(self.timeout_keep_alive, self._look, left)

    def _taken(self) -> None:
        if self._taking:
            self._taking.cancel()
            self._taking = None

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


class Server(uvicorn.Server):
    """Serves an application. seconds: that a connection may be idle, and a request's head may take."""

    def __init__(self, app: FastAPI, *, seconds: int) -> None:
        self.app = app
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=seconds,
                timeout_graceful_shutdown=PATIENCE,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, let the open ones get their answers, then end as uvicorn does."""
        self.app.state.closing = True
        for server in self.servers:
            server.close()
        until = time.monotonic() + GRACE
        while self.server_state.connections and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
