"""The web page's files, and no others."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from bot.channels.http.guard import problem

_WEB = Path(__file__).parent.parent / "web"
_FRESH = {"Cache-Control": "no-cache"}  # revalidated by its ETag, so an update is seen at once


def pages() -> APIRouter:
    """Return the routes of the page at / and of its parts."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: path for path in _WEB.iterdir() if path.is_file()}

    @router.get("/")
    async def index() -> Response:
        return FileResponse(files["index.html"], headers=_FRESH)

    @router.get("/web/{name}")
    async def asset(name: str) -> Response:
        return FileResponse(files[name], headers=_FRESH) if name in files else problem(404, "There is no such file.")

    return router
