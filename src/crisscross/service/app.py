"""The application: one path for predictions, and some that tell about the service."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from crisscross import __version__
from crisscross.inference import Predictor
from crisscross.service.answers import FORMATS, answer, choose
from crisscross.service.guard import Guard, facts_of, refused
from crisscross.service.limits import Limits
from crisscross.service.metrics import Metrics
from crisscross.service.page import describe, page
from crisscross.service.uploads import GONE, decode, receive_upload
from crisscross.service.worker import Worker

# Images that are decoded, and answers that are written, at once. Each may take `BYTES_A_PIXEL` bytes a pixel.
THREADS = 2
PATHS = frozenset(("/predict", "/health", "/ready", "/metrics", "/classes", "/docs", "/openapi.json"))


class Service:
    """What the paths share: the predictor with its worker, and the predictions that are under way."""

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics) -> None:
        self.predictor, self.limits, self.metrics = predictor, limits, metrics
        self.worker = Worker(predictor, limits.batch, metrics.batch)
        self.pool = ThreadPoolExecutor(THREADS, "files")
        self.under_way = 0

    async def predict(self, request: Request) -> Response:
        """The answer to a request with an image.

        Raises:
            HTTPException: with the status and the line that the client gets.
        """
        if self.under_way >= self.limits.requests:
            line = f"{self.under_way} requests are waiting already; try again in a second"
            raise HTTPException(429, line, {"retry-after": "1"})
        self.under_way += 1
        try:
            upload = await receive_upload(request, self.limits)
            wanted = request.query_params.get("format") or upload.format
            name = choose(wanted, request.headers.get("accept", "*/*"))
            facts_of(request.scope)["format"] = name
            return await self._before_timeout(request, self._computed(request, upload.content, name))
        finally:
            self.under_way -= 1

    async def _computed(self, request: Request, content: bytes, name: str) -> Response:
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(self.pool, decode, content, self.limits.pixels)
        facts_of(request.scope)["size"] = f"{image.shape[1]}x{image.shape[0]}"
        labels = await asyncio.wrap_future(self.worker.submit(image))
        return await loop.run_in_executor(self.pool, answer, name, labels, self.predictor.card)

    async def _before_timeout(self, request: Request, work: Any) -> Response:
        """The answer; given up where it takes too long, or where the client has gone, and nothing is computed then."""
        working = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait((working, gone), timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if gone.done():
                raise HTTPException(GONE, "the client closed the connection")
            raise HTTPException(504, f"no answer after {self.limits.timeout:g} seconds", {"retry-after": "1"})
        finally:
            for task in (working, gone):
                task.cancel()
            await asyncio.gather(working, gone, return_exceptions=True)

    def warm_up(self) -> None:
        """Label a black image as the first requests would be, singly and by two: what is wrong shows now.

        Raises:
            CrissCrossError: the predictor's function does not fit its card.
        """
        image = np.zeros((64, 64, 3), np.uint8)
        self.predictor.predict([image] * min(self.limits.batch, 2))
        self.predictor.predict(image)


def create_app(predictor: Predictor, limits: Limits | None = None) -> FastAPI:
    """The application around a predictor; the worker runs from its start to its end.

    Raises:
        CrissCrossError: the predictor does not work.
    """
    limits = limits or Limits()
    metrics = Metrics()
    service = Service(predictor, limits, metrics)
    service.warm_up()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        # The server has answered all requests by now.
        await asyncio.to_thread(service.worker.stop)
        service.pool.shutdown()

    app = FastAPI(
        title="crisscross",
        version=__version__,
        description="Labels every pixel of an image.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={HTTPException: _refuse},
    )
    app.add_middleware(Guard, hosts=limits.hosts, metrics=metrics, paths=PATHS)
    _add_paths(app, service)
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(error.status_code, str(error.detail), dict(error.headers or {}))


def _add_paths(app: FastAPI, service: Service) -> None:
    card = service.predictor.card

    @app.post("/predict", summary="Label an image", response_class=Response, **describe(FORMATS))
    async def predict(request: Request) -> Response:
        return await service.predict(request)

    @app.get("/health", summary="Whether the process answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", summary="Whether the network takes images (503: not)")
    async def ready() -> JSONResponse:
        works = service.worker.works
        return JSONResponse({"status": "ready" if works else "stopping"}, 200 if works else 503)

    @app.get("/classes", summary="Number, name and RGB color of each class")
    async def classes() -> list[dict[str, Any]]:
        both = zip(card.classes, card.palette, strict=True)
        return [{"label": label, "name": name, "color": list(color)} for label, (name, color) in enumerate(both)]

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        text = service.metrics.text(service.under_way, len(service.worker.waiting))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page(app.openapi())
