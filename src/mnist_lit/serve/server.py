"""uvicorn, taught two things: to wait for nobody's headers, and to lose no request at the end."""

import asyncio
import socket
import time

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection", "Server"]

CONNECTIONS = 800  # at a time; most systems let a process open 1,024 files
GRACE = 1.0  # seconds at the end in which an open connection may still ask once
PATIENCE = 30  # seconds for the answers under way at the end


class Connection(H11Protocol):
    """A client's connection, closed when a request's head is longer on its way than an idle one may stay."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock starts."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """The clock stops with a whole head, and starts again with the first bytes of the next."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The clock stops."""
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        if self.cycle and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

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
                limit_concurrency=CONNECTIONS,
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
