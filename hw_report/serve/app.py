"""The web application: the book, the page of all try-its (boxes for trying a network), and the uploads."""

import asyncio
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from hw_common.runs.errors import UserError
from hw_report.serve.try_its import TryIt

MAX_BYTES = 10_000_000  # largest size of an upload
MAX_UPLOADS = 4  # largest number of uploads that are received or answered at the same time
_READ_SECONDS = 30  # longest time that an upload may take to arrive
_ANSWER_SECONDS = 60  # longest time of an answer
_STATIC = Path(__file__).with_name("static")
_HEAD = '<link rel="stylesheet" href="/try/static/try.css"><script src="/try/static/try.js" defer></script></head>'


class Book(StaticFiles):
    """The files of the book; its pages get the script that adds the try-its."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The answer with the file `full_path`."""
        if not str(full_path).endswith(".html"):
            return super().file_response(full_path, stat_result, scope, status_code)
        page = Path(full_path).read_text("utf-8").replace("</head>", _HEAD, 1)
        return HTMLResponse(page, status_code)


class Uploads:
    """Applies the networks of finished runs to uploads, one upload after another."""

    def __init__(self, try_its: Sequence[TryIt]) -> None:
        self._try_its = try_its
        self._open = 0  # uploads that are received or answered now
        # One thread, because the networks use all cores, and because hooks and Matplotlib allow only one at a time.
        self._thread = ThreadPoolExecutor(1)

    def index(self, request: Request) -> Response:
        """The try-its as JSON; an upload for the first one goes to /try/runs/0."""
        return JSONResponse(
            [
                {"title": try_it.title, "questions": try_it.questions, "task": try_it.task, "kind": try_it.kind,
                 "canvas": try_it.canvas and dataclasses.asdict(try_it.canvas), "max_bytes": MAX_BYTES}
                for try_it in self._try_its
            ]
        )  # fmt: skip

    async def answer(self, request: Request) -> Response:
        """The result for the file in the body of a request, as JSON."""
        number = request.path_params["number"]
        if number >= len(self._try_its):
            raise HTTPException(404, f"there is no run {number}")
        if self._open >= MAX_UPLOADS:
            raise HTTPException(503, "the server is busy; try again in a moment", {"retry-after": "5"})
        self._open += 1
        try:
            content = await _read(request)
            job = self._thread.submit(_answer, self._try_its[number], content)
        except BaseException:
            self._open -= 1
            raise
        # A thread cannot be stopped, so a job that takes too long continues. It counts as an upload until it ends.
        loop = asyncio.get_running_loop()
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._close))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), _ANSWER_SECONDS)
        except TimeoutError:
            raise HTTPException(503, f"this took longer than {_ANSWER_SECONDS} s; try a smaller file") from None

    def _close(self) -> None:
        self._open -= 1


def make_app(try_its: Sequence[TryIt], book: Path | None) -> Starlette:
    """The application; `book` is the folder of the book, or None if there is none."""
    uploads = Uploads(try_its)
    front: Route | Mount = Route("/", lambda request: RedirectResponse("/try"))
    if book is not None:
        front = Mount("/", Book(directory=book, html=True))
    routes = [
        Route("/try", lambda request: FileResponse(_STATIC / "try.html")),
        Route("/try/runs", uploads.index),
        Route("/try/runs/{number:int}", uploads.answer, methods=["POST"]),
        Mount("/try/static", StaticFiles(directory=_STATIC)),
        front,
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _explain})


async def _read(request: Request) -> bytes:
    """The body of a request, which is never written to disk."""
    limit = HTTPException(413, f"the upload is larger than the limit of {MAX_BYTES // 1_000_000} MB")
    if int(request.headers.get("content-length", 0)) > MAX_BYTES:  # the server has checked that it is a number
        raise limit
    content = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for block in request.stream():  # the length may be missing
                content += block
                if len(content) > MAX_BYTES:
                    raise limit
    except TimeoutError:
        raise HTTPException(408, f"the upload did not arrive within {_READ_SECONDS} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the upload was cut short") from None
    if not content:
        raise HTTPException(400, "the upload is empty")
    return bytes(content)


def _answer(try_it: TryIt, content: bytes) -> Response:
    try:
        return JSONResponse(dataclasses.asdict(try_it.answer(content)))
    except UserError as error:
        return _error(422, str(error))
    except Exception as error:  # a mistake of ours; the server must keep running
        message = f"this file could not be processed: {type(error).__name__}"
        print(f"error: {try_it.title}: {message}: {' '.join(str(error).split())}", file=sys.stderr)
        return _error(500, message)


def _explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": " ".join(message.split())}, status, headers)
