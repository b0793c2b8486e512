"""The service itself: its addresses, what it answers, and what it lets in.

No path from a client is opened: recordings are sent whole, or chosen from an index by the SHA-256
of their content. Where the service is for this machine alone, it answers only who calls it by a
name of this machine, so that no page of another site can be made to point here; and it answers no
request that a page of another site makes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flamlib.inference import sound_page
from flamlib.serve import limits, workspace
from flamlib.serve.refusals import Refused
from flamlib.serve.work_queue import WorkQueue
from flamlib.serve.workspace import Workspace

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
N_SENDING = 4  # recordings that are taken in at once
UPLOAD = "/api/recordings"
_ITS_OWN = "connect-src 'self'"  # whom the page may ask
_BODY = {"content": {"application/octet-stream": {"schema": {"type": "string"}}}, "required": True}


Seconds = Annotated[float, Query(ge=0, allow_inf_nan=False)]


class Captions(BaseModel):
    """Captions to ask of a recording."""

    captions: list[str]


class Sentence(BaseModel):
    """A caption to search the index for."""

    caption: str
    k: int = 20


class Door:
    """Lets requests in, and puts the headers on answers that keep a browser from harm."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, max_bytes: int) -> None:
        """Stand before an application.

        Args:
            app: The application.
            hosts: Names by which it may be called; None: any.
            max_bytes: Of a recording that is sent.
        """
        self._app, self._hosts, self._max_bytes = app, hosts, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_SAFE]
            await send(message)

        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        refused = self._refusal(scope["path"], headers)
        if refused is not None:
            answer = JSONResponse(refused.content(), refused.status)
            await answer(scope, receive, send_safely)
            return
        await self._app(scope, receive, send_safely)

    def _refusal(self, path: str, headers: dict[str, str]) -> Refused | None:
        host = headers.get("host", "")
        if self._hosts is not None and _name(host) not in self._hosts:
            return Refused(
                421, "host", "This service answers on this machine alone: call it by 127.0.0.1."
            )
        origin = headers.get("origin")
        is_ours = origin is None or urlsplit(origin).netloc == host
        if not is_ours or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return Refused(403, "origin", "A page of another site asked for this.")
        length, most = headers.get("content-length"), limits.MAX_JSON
        if path == UPLOAD:
            most = self._max_bytes
        if length is None and "transfer-encoding" in headers and path != UPLOAD:
            return Refused(411, "no_length", "A request needs its length: Content-Length.")
        if length is not None and (not length.isdecimal() or int(length) > most):
            return _too_large(most)
        return None


_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


def _name(host: str) -> str:
    """The name in a header Host, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _too_large(most: int) -> Refused:
    return Refused(413, "too_large", f"More than {most / 1e6:g} MB, the most that is taken here.")


def make(served: Workspace, *, hosts: frozenset[str] | None = LOOPBACK) -> FastAPI:
    """Make the service.

    Args:
        served: What it serves.
        hosts: Names by which it may be called; None: any.
    """
    most = served.limits
    queue = WorkQueue(n_waiting=most.n_waiting, timeout_s=most.timeout_s)
    sending = asyncio.Semaphore(N_SENDING)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        queue.close()

    # Its own pages of documentation would fetch scripts from elsewhere.
    app = FastAPI(
        title="flam serve", version="1", docs_url=None, redoc_url=None, lifespan=life,
        description="Find the moments of a recording that a sentence describes.",
    )  # fmt: skip
    app.add_middleware(Door, hosts=hosts, max_bytes=most.max_bytes)
    _tell_errors(app)
    given = {
        "server": {
            "model": served.name,
            "max_bytes": most.max_bytes,
            "max_s": most.max_s,
            "max_captions": limits.MAX_CAPTIONS,
            "has_index": served.index is not None,
        }
    }
    shown = sound_page.render(given, _ITS_OWN)
    policy = sound_page.policy(_ITS_OWN, "frame-ancestors 'none'")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(shown, headers={"content-security-policy": policy})

    @app.get("/api", summary="The model, and how much is taken")
    async def about() -> dict[str, Any]:
        return given["server"]

    @app.post(UPLOAD, summary="Open a recording", openapi_extra={"requestBody": _BODY})
    async def open_sent(request: Request, name: str = "recording") -> dict[str, Any]:
        """Send the file as it is as the body. Returns its `id`, its duration and a spectrogram."""
        name = workspace.name_of(name)
        if sending.locked():
            raise Refused(503, "busy", "Too many recordings are being sent; try again in a minute.")
        async with sending:
            with workspace.place_for(name) as path:
                await _take(request, path, most)
                return await queue.do(served.open_sent, path, name)

    @app.post("/api/recordings/{known}/scores", summary="Ask captions of a recording")
    async def ask(known: str, asked: Captions) -> dict[str, Any]:
        """Returns the events, as `flam detect` finds them, and the scores of all frames (32-bit
        floats, little-endian, in base64). The recording is not embedded again."""
        return await queue.do(served.ask, known, limits.check_captions(asked.captions))

    @app.get("/api/recordings/{known}/audio", summary="The sound of a recording, as MP3")
    async def sound(known: str) -> Response:
        return Response(await queue.do(served.sound, known), media_type="audio/mpeg")

    @app.get("/api/index", summary="The recordings of the index, by name")
    async def listed(name: str = "") -> dict[str, Any]:
        """Those whose name has this part, the first thousand of them, and how many there are."""
        return await queue.do(served.listed, name)

    @app.post("/api/index/search", summary="Search the index for a sentence")
    async def search(asked: Sentence) -> dict[str, Any]:
        [caption] = limits.check_captions([asked.caption])
        if not 1 <= asked.k <= limits.MAX_HITS:
            raise Refused(422, "k", f"k is {asked.k}; expected 1 to {limits.MAX_HITS}.")
        return await queue.do(served.search, caption, asked.k)

    @app.post("/api/index/{known}", summary="Open a recording of the index")
    async def open_indexed(known: str, at: Seconds = 0.0) -> dict[str, Any]:
        """All of it; of one that is too long, the part around the time `at`, in seconds. Times are
        those of the recording."""
        return await queue.do(served.open_indexed, known, at)

    return app


async def _take(request: Request, path: Path, most: limits.Limits) -> None:
    """Write what is sent to a file, as much as is taken."""
    n = 0
    try:
        async with asyncio.timeout(most.timeout_s):
            with path.open("wb") as file:
                async for piece in request.stream():
                    n += len(piece)
                    if n > most.max_bytes:
                        raise _too_large(most.max_bytes)
                    file.write(piece)
    except TimeoutError:
        raise Refused(
            408, "timeout", f"The recording was not sent within {most.timeout_s:g} s."
        ) from None
    except ClientDisconnect:
        raise Refused(400, "cut_off", "The recording was not sent to its end.") from None
    except OSError as error:
        raise Refused(
            507, "no_room", f"The recording cannot be kept here: {error.strerror or error}."
        ) from error


def _tell_errors(app: FastAPI) -> None:
    """Have all errors told in one form."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse(error.content(), error.status)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        told = Refused(422, "request", f"{where or 'the request'}: {first['msg']}.")
        return JSONResponse(told.content(), told.status)

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        told = Refused(error.status_code, "request", f"{error.detail}.")
        return JSONResponse(told.content(), told.status)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        told = Refused(500, "internal", "Something went wrong here; the server's output says what.")
        return JSONResponse(told.content(), told.status)
