"""Counts and times of requests and readings, in Prometheus's text format, by hand."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["TYPE", "Counted", "Metrics"]

TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
ROUTES = ("/", "/predict", "/health", "/metrics", "/docs")  # by name; every other path is one: there is no end of them


class Metrics:
    """What was asked and answered since the start. For one thread, the event loop's."""

    def __init__(self) -> None:
        self.requests = Counter[tuple[str, int]]()  # route, status
        self.slots = Counter[tuple[str, int]]()  # route, index of the first bound that is not exceeded
        self.seconds = Counter[str]()  # route
        self.readings = Counter[str]()  # status

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self.requests[route, status] += 1
        self.slots[route, bisect_left(BOUNDS, seconds)] += 1
        self.seconds[route] += seconds  # type: ignore[assignment]

    def text(self) -> str:
        """Everything, as Prometheus reads it."""
        return "\n".join((*self._lines(), ""))

    def _lines(self) -> Iterator[str]:
        yield "# HELP mnist_lit_requests_total Requests answered."
        yield "# TYPE mnist_lit_requests_total counter"
        for (route, status), count in sorted(self.requests.items()):
            yield f'mnist_lit_requests_total{{route="{route}",status="{status}"}} {count}'
        yield "# HELP mnist_lit_request_seconds From a request's head to the end of its answer."
        yield "# TYPE mnist_lit_request_seconds histogram"
        for route, seconds in sorted(self.seconds.items()):
            total = 0
            for slot, bound in enumerate((*BOUNDS, "+Inf")):
                total += self.slots[route, slot]
                yield f'mnist_lit_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
            yield f'mnist_lit_request_seconds_sum{{route="{route}"}} {seconds:.6f}'
            yield f'mnist_lit_request_seconds_count{{route="{route}"}} {total}'
        yield "# HELP mnist_lit_readings_total Digits read, by what came of it."
        yield "# TYPE mnist_lit_readings_total counter"
        for name, count in sorted(self.readings.items()):
            yield f'mnist_lit_readings_total{{status="{name}"}} {count}'


class Counted:
    """ASGI middleware that counts and times every request."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            route = scope["path"] if scope["path"] in ROUTES else "other"
            self.metrics.request(route, status, time.perf_counter() - begun)
