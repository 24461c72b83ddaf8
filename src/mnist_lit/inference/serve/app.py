"""The server's routes: reading pictures, health, metrics, the page and the API's description."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from mnist_lit import __version__
from mnist_lit.inference.reader import DigitReader
from mnist_lit.inference.serve.answers import Answer, Health, Problem, answer
from mnist_lit.inference.serve.bodies import KINDS, read_body
from mnist_lit.inference.serve.limits import Guard, Limits
from mnist_lit.inference.serve.metrics import TYPE, Counted, Metrics

__all__ = ["create_app"]

PAGE = Path(__file__).parent / "page"
PROBLEMS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (400, 408, 413, 415, 422, 500, 503)}


def create_app(reader: DigitReader, *, hosts: Sequence[str] = (), limits: Limits | None = None) -> FastAPI:
    """The application. hosts: names it may be called by, beside localhost and the address it is reached at."""
    limits = limits or Limits()
    counts, threads = Metrics(), CapacityLimiter(limits.threads)
    app = FastAPI(title="mnist-lit", version=__version__, docs_url=None, redoc_url=None)
    app.state.closing = False
    app.add_middleware(Guard, hosts=hosts, limits=limits)
    app.add_middleware(Counted, metrics=counts)  # outside, so that refusals count

    @app.post(
        "/predict",
        response_model=Answer,
        responses=PROBLEMS,
        openapi_extra={"requestBody": {"content": KINDS, "required": True}},
    )
    async def predict(request: Request, many: bool = False) -> Response:  # noqa: FBT001, FBT002 a query parameter
        """Read the digit of a picture, or with `many` every digit of it."""
        body = await read_body(request)
        if threads.statistics().tasks_waiting >= limits.waiting:
            raise HTTPException(503, "too many pictures at once; try again", {"retry-after": "1"})
        answered = await to_thread.run_sync(lambda: answer(reader, body, many=many), limiter=threads)
        counts.readings.update(reading.status for reading in answered.readings)
        return Response(answered.model_dump_json(), media_type="application/json")  # it is an Answer: no second check

    @app.get("/predict", include_in_schema=False)
    async def asked() -> Response:
        raise HTTPException(405, "expected POST, with a picture as the body", {"allow": "POST"})

    @app.get("/health")
    async def health() -> Health:
        """That the server answers, and what it serves."""
        return Health(model=reader.name, labels=list(reader.labels), threshold=reader.threshold)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {TYPE: {}}}})
    async def measured() -> Response:
        """Counts and times, for Prometheus."""
        return Response(counts.text(), headers={"content-type": TYPE})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)

    app.mount("/swagger-ui", StaticFiles(directory=_swagger()))
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _swagger() -> Path:
    """The folder of Swagger UI's files, which come with a package, so that nothing is fetched from elsewhere."""
    found = importlib.util.find_spec("fastapi_offline")
    if not found or not found.origin:
        raise ModuleNotFoundError("no fastapi_offline", name="fastapi_offline")
    return Path(found.origin).parent / "static"
