"""The routes: reading pictures, health, metrics, the page and the API's documentation."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from prometheus_client import generate_latest
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware

from mnist_lit import __version__
from mnist_lit.inference.reader import DigitReader
from mnist_lit.inference.serve.activations import Activations, Convolutions
from mnist_lit.inference.serve.answers import Answer, Health, Problem, answer
from mnist_lit.inference.serve.bodies import CONTENT, JSON, ONE_IMAGE, parse_pixels, read_body
from mnist_lit.inference.serve.guard import GuardMiddleware
from mnist_lit.inference.serve.limits import Limits
from mnist_lit.inference.serve.metrics import CONTENT_TYPE, Metrics
from mnist_lit.inference.serve.time_limit import ProposalProcesses

PAGE_FOLDER = Path(__file__).parent / "page"
Problems = dict[int | str, dict[str, Any]]
PROBLEMS: Problems = {code: {"model": Problem} for code in (400, 405, 421, 500, 503)}  # of every endpoint
BODY_PROBLEMS: Problems = {code: {"model": Problem} for code in (403, 408, 413, 415, 422)}
BODY = {"requestBody": {"content": CONTENT, "required": True}}
PIXELS = {"requestBody": {"content": ONE_IMAGE, "required": True}}
T = TypeVar("T", bound=BaseModel)


def create_app(
    reader: DigitReader, *, hosts: Sequence[str] = (), origins: Sequence[str] = (), limits: Limits | None = None
) -> FastAPI:
    """The application. hosts: its names, besides localhost and the address that a client connects to. origins: other
    sites whose pages may use it."""
    limits = limits or Limits()
    metrics, threads, processes = Metrics(), CapacityLimiter(limits.threads), ProposalProcesses(limits.reading)
    convolutions = Convolutions(reader)
    app = FastAPI(
        title="mnist-lit",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=PROBLEMS,
    )
    app.state.closing, app.state.processes, app.state.metrics = False, processes, metrics
    app.add_middleware(GuardMiddleware, hosts=hosts, origins=origins, limits=limits, metrics=metrics)
    if origins:  # around the guard, so that those pages can read its refusals, too
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=("GET", "POST"))

    async def in_thread(request: Request, call: Callable[[], T]) -> T:
        # uvicorn 0.54.0 stops reading a connection when it holds 64 KiB of a body, and then misses that the client
        # leaves. This question makes it read on.
        await request.is_disconnected()
        if threads.statistics().tasks_waiting >= limits.waiting:
            raise HTTPException(503, "too many pictures at once; try again", {"retry-after": "1"})
        async with threads:
            if await request.is_disconnected():  # the page gives up a reading with each new stroke
                raise HTTPException(400, "the client disconnected")
            return await to_thread.run_sync(call, limiter=CapacityLimiter(1))  # its own: `threads` limits already

    @app.post("/predict", response_model=Answer, responses=BODY_PROBLEMS, openapi_extra=BODY)
    async def predict(request: Request, many: bool = False) -> Response:  # noqa: FBT001, FBT002  # a query parameter
        """Read the digit in a picture, or every digit with `many`."""
        if unknown := [name for name in request.query_params if name != "many"]:
            raise HTTPException(422, f"expected many as the only parameter, got {unknown[0][:40]!r}")
        data, is_json = await read_body(request)
        if many and is_json:
            raise HTTPException(422, "28×28 pixels are one digit; send a picture to read many")
        result = await in_thread(request, lambda: answer(reader, processes.propose, data, many=many, is_json=is_json))
        for reading in result.readings:
            metrics.readings.labels(reading.status).inc()
        return Response(result.model_dump_json(), media_type=JSON)  # validated already

    @app.post(
        "/activations",
        response_model=Activations,
        responses={404: {"model": Problem}, **BODY_PROBLEMS},
        openapi_extra=PIXELS,
    )
    async def activations(request: Request) -> Response:
        """How the tutorial network's convolutions respond to one image of 28×28 pixels."""
        if unknown := list(request.query_params):
            raise HTTPException(422, f"expected no parameter, got {unknown[0][:40]!r}")
        data, is_json = await read_body(request)
        if not is_json:
            raise HTTPException(415, f"expected {JSON}, got a picture")
        result = await in_thread(request, lambda: convolutions.respond(parse_pixels(data)))
        return Response(result.model_dump_json(), media_type=JSON)

    @app.head("/health")  # for monitoring tools
    @app.get("/health")
    async def health() -> Health:
        """Whether the server is up, and which model it serves."""
        return Health(
            model=reader.name, labels=list(reader.labels), threshold=reader.threshold, layers=convolutions.names
        )

    @app.head("/metrics", response_class=Response)
    @app.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE: {}}}})
    async def prometheus() -> Response:
        """Counts and durations for Prometheus."""
        return Response(generate_latest(metrics), headers={"content-type": CONTENT_TYPE})

    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(PAGE_FOLDER / "docs.html")

    _add_error_handlers(app)
    app.mount("/swagger-ui", StaticFiles(directory=str(files("fastapi_offline") / "static")))  # nothing from the web
    # A mount would hide that a route has another method.
    app.router.default = StaticFiles(directory=PAGE_FOLDER, html=True)
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Answer errors with one line of JSON."""

    @app.exception_handler(RequestValidationError)
    async def one_line(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        got = str(first["input"])[:40]
        return JSONResponse({"detail": f"{first['loc'][-1]}: expected true or false, got {got!r}"}, 422)

    def path_without_slash(request: Request) -> str:
        path = request.url.path.rstrip("/")
        routes = {route.path for route in app.routes if isinstance(route, APIRoute)}
        return path if path != request.url.path and path in routes else ""

    @app.exception_handler(404)
    async def no_such_path(request: Request, error: HTTPException) -> JSONResponse:
        hint = f"; did you mean {path}?" if (path := path_without_slash(request)) else ""
        elsewhere = f"expected a path that /docs lists, or a file of the page, got {request.url.path[:100]!r}{hint}"
        return JSONResponse({"detail": elsewhere if error.detail == "Not Found" else error.detail}, 404)

    @app.exception_handler(405)
    async def other_method(request: Request, error: HTTPException) -> JSONResponse:
        if path_without_slash(request):
            return await no_such_path(request, HTTPException(404))
        # The error has the methods of the path's first route only.
        routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path == request.url.path]
        methods = ", ".join(sorted(method for route in routes for method in route.methods or ()))
        allow = methods or (error.headers or {}).get("Allow", "GET")
        return JSONResponse({"detail": f"expected {allow}, got {request.method}"}, 405, {"Allow": allow})
