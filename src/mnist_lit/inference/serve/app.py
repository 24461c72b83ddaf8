"""The routes: reading pictures, health, metrics, the page and the API's documentation."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import generate_latest

from mnist_lit import __version__
from mnist_lit.inference.reader import DigitReader
from mnist_lit.inference.serve.answers import Answer, Health, Problem, answer
from mnist_lit.inference.serve.bodies import CONTENT, read_body
from mnist_lit.inference.serve.limits import GuardMiddleware, Limits
from mnist_lit.inference.serve.metrics import CONTENT_TYPE, Metrics

PAGE = Path(__file__).parent / "page"
PROBLEMS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (400, 408, 413, 415, 422, 500, 503)}
BODY = {"requestBody": {"content": CONTENT, "required": True}}


def create_app(reader: DigitReader, *, hosts: Sequence[str] = (), limits: Limits | None = None) -> FastAPI:
    """The application. hosts: its names, besides localhost and the address that a client connects to."""
    limits = limits or Limits()
    metrics, threads = Metrics(), CapacityLimiter(limits.threads)
    app = FastAPI(title="mnist-lit", version=__version__, docs_url=None, redoc_url=None)
    app.state.closing = False
    app.add_middleware(GuardMiddleware, hosts=hosts, limits=limits, metrics=metrics)

    @app.post("/predict", response_model=Answer, responses=PROBLEMS, openapi_extra=BODY)
    async def predict(request: Request, many: bool = False) -> Response:  # noqa: FBT001, FBT002  # a query parameter
        """Read the digit in a picture, or every digit with `many`."""
        data, is_json = await read_body(request)
        if threads.statistics().tasks_waiting >= limits.waiting:
            raise HTTPException(503, "too many pictures at once; try again", {"retry-after": "1"})
        result = await to_thread.run_sync(lambda: answer(reader, data, many=many, is_json=is_json), limiter=threads)
        for reading in result.readings:
            metrics.readings.labels(reading.status).inc()
        return Response(result.model_dump_json(), media_type="application/json")  # validated already

    @app.get("/predict", include_in_schema=False)
    async def predict_needs_post() -> Response:
        raise HTTPException(405, "expected POST, with a picture as the body", {"allow": "POST"})

    @app.get("/health")
    async def health() -> Health:
        """The server is up; which model it serves."""
        return Health(model=reader.name, labels=list(reader.labels), threshold=reader.threshold)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE: {}}}})
    async def prometheus() -> Response:
        """Counts and durations for Prometheus."""
        return Response(generate_latest(metrics), headers={"content-type": CONTENT_TYPE})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    @app.exception_handler(RequestValidationError)
    async def one_line(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    app.mount("/swagger-ui", StaticFiles(directory=str(files("fastapi_offline") / "static")))  # nothing from the web
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app
