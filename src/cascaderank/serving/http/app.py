"""The application: routes of FastAPI around a service."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cascaderank import __version__
from cascaderank.errors import CascadeRankError
from cascaderank.schema import Role
from cascaderank.serving.http.access import Access
from cascaderank.serving.http.guard import PAGE, RANK, RELOAD, Application, Guard
from cascaderank.serving.http.openapi import documented
from cascaderank.serving.http.problems import MEDIA_TYPE, ProblemError, invalid, problem_of
from cascaderank.serving.http.service import Service
from cascaderank.serving.http.serving_metrics import CONTENT_TYPE
from cascaderank.serving.variant_routing import MAIN
from cascaderank.serving.worker_pool import QueueFullError

T = TypeVar("T")

_JSON: Final = "application/json"
_PAGE_FOLDER: Final = Path(__file__).parent / "page"
_PAGE_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_NAMES: Final = {404: "not-found", 405: "method-not-allowed"}


def build_app(service: Service, access: Access | None = None) -> Application:
    """Return the ASGI application of a service.

    Args:
        service: loaded bundles.
        access: tokens; default: none, for this machine only.

    Returns:
        Routes ``/v1/rank``, ``/v1/bundle``, ``/v1/golden``, ``/v1/feedback``, ``/v1/reload``,
        ``/health/live``, ``/health/ready``, ``/metrics`` and ``/openapi.json``, and the page at
        ``/``.
    """
    app = FastAPI(
        title="cascaderank",
        version=__version__,
        summary="Ranks the candidates of a request by the trained cascade of a bundle.",
        docs_url=None,  # these pages fetch scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        # All answers have strict headers; an answer to an error has them, too.
    )
    outcomes = service.metrics.requests.labels

    def or_overloaded(submit: Callable[[], T]) -> T:
        try:
            return submit()
        except QueueFullError as error:
            outcomes("overloaded").inc()
            raise ProblemError(
                "overloaded",
                "the queue of requests is full",
                headers={"retry-after": str(error.retry_after)},
            ) from None

    async def in_pool(submit: Callable[[Callable[[], Any]], Any], job: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(or_overloaded(lambda: submit(job)))

    @app.post(RANK)
    async def rank(request: Request) -> Response:
        """Rank candidates, or search all items."""
        _check_type(request)
        body = await request.body()
        received = perf_counter()
        try:
            content = await in_pool(service.pool.submit, lambda: service.rank(body, received))
        except ProblemError as problem:
            if problem.name != "overloaded":
                outcomes("late" if problem.status == 503 else "invalid").inc()
            raise
        except CascadeRankError:
            outcomes("invalid").inc()
            raise
        return Response(content, media_type=_JSON)

    @app.get("/v1/bundle")
    async def bundle() -> Response:
        """Describe what is served."""
        return JSONResponse(service.describe())

    @app.get("/v1/golden")
    async def golden(variant: str = MAIN) -> Response:
        """List the golden requests of a bundle."""
        listed = service.golden(variant).listed
        return Response(await in_pool(service.pool.submit, listed), media_type=_JSON)

    @app.get("/v1/golden/{index}")
    async def golden_body(index: str, variant: str = MAIN) -> Response:
        """Return a golden request with its candidates, as `POST /v1/rank` takes it."""
        bodies = service.golden(variant)
        content = await in_pool(service.pool.submit, lambda: bodies.body(index))
        return Response(content, media_type=_JSON)

    @app.post("/v1/feedback", status_code=202)
    async def feedback(request: Request) -> Response:
        """Take the response of a user to an item of an answer."""
        _check_type(request)
        accepted = service.feedback(await request.body())
        if not accepted:
            raise ProblemError(
                "unavailable", "the log cannot take it at present", headers={"retry-after": "1"}
            )
        return JSONResponse({"accepted": True}, status_code=202)

    @app.post(RELOAD)
    async def reload() -> Response:
        """Load the bundles from their folders again, and serve them in one step."""
        found = await in_pool(service.in_admin_thread, service.reload)
        return JSONResponse({"variants": {name: each.name for name, each in found.items()}})

    @app.get("/health/live")
    async def live() -> Response:
        """Answer as long as the process works."""
        return JSONResponse({"live": True})

    @app.get("/health/ready")
    async def ready() -> Response:
        """Answer 200 as long as requests are taken; 503 while the server stops."""
        is_ready = not service.stopping
        return JSONResponse({"ready": is_ready}, status_code=200 if is_ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return metrics in the format of Prometheus."""
        return Response(service.metrics.page(), media_type=CONTENT_TYPE)

    _add_page(app)
    _add_problems(app, service)
    documented(app, service)
    # Without room, a request is refused before its body is read: this takes less time.
    rooms = {RANK: lambda: or_overloaded(service.pool.check_room)}
    return Guard(app, access or Access(), service.limits, rooms)


def _check_type(request: Request) -> None:
    media, *parameters = request.headers.get("content-type", "").lower().split(";")
    charset = [p.strip() for p in parameters if p.strip() not in ("charset=utf-8", "")]
    if media.strip() != _JSON or charset:
        raise invalid(
            "Content-Type",
            expected="application/json in UTF-8",
            found=repr(request.headers.get("content-type", "")[:100]),
            name="unsupported-media-type",
        )


def _add_page(app: FastAPI) -> None:
    """Add the files of the page, which are read once: no request reads a path."""
    files = {
        path.name: path.read_bytes()
        for path in sorted(_PAGE_FOLDER.iterdir())
        if path.suffix in _PAGE_TYPES
    }

    def sent(name: str) -> Response:
        if name not in files:
            raise ProblemError("not-found", "there is no such resource")
        return Response(files[name], media_type=_PAGE_TYPES[Path(name).suffix])

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return sent("index.html")

    @app.get(PAGE + "{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return sent(name)


def _add_problems(app: FastAPI, service: Service) -> None:
    """Answer all errors by problem documents."""

    def answer(problem: ProblemError) -> Response:
        return Response(
            problem.content(),
            status_code=problem.status,
            headers=problem.headers,
            media_type=MEDIA_TYPE,
        )

    @app.exception_handler(ProblemError)
    async def of_problem(_: Request, error: ProblemError) -> Response:
        return answer(error)

    @app.exception_handler(CascadeRankError)
    async def of_library(_: Request, error: CascadeRankError) -> Response:
        bundles = [ranker.bundle for ranker in service.rankers.values()]
        of_items = {f.name for b in bundles for f in b.schema.features if f.role is Role.ITEM}
        return answer(problem_of(error, of_items))

    @app.exception_handler(HTTPException)
    async def of_routes(_: Request, error: HTTPException) -> Response:
        name = _NAMES.get(error.status_code, "forbidden")
        return answer(ProblemError(name, "see /openapi.json", headers=error.headers))

    @app.exception_handler(ClientDisconnect)
    async def of_client(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=499)  # the client has gone

    @app.exception_handler(Exception)
    async def of_bug(_: Request, __: Exception) -> Response:
        return answer(ProblemError("bug", "an error of the server; its log has the reason"))
