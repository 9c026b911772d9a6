"""The explorer page and the page that describes the API: a few files, read once."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import Response

_FOLDER = Path(__file__).parent / "explorer"

_PAGES = ("/", "/feed", "/map", "/compare", "/add", "/generations")
"""Addresses of one and the same page, whose script shows what belongs to each."""

_SCRIPTS = (
    "add",
    "app",
    "compare",
    "feed",
    "generations",
    "item",
    "map",
    "parts",
    "search",
    "session",
    "why",
)

_FILES = {
    **dict.fromkeys(_PAGES, ("index.html", "text/html; charset=utf-8")),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in _SCRIPTS},
    "/app.css": ("app.css", "text/css; charset=utf-8"),
    "/pages.css": ("pages.css", "text/css; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs.css": ("docs.css", "text/css; charset=utf-8"),
    "/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True)
class _File:
    """One file, in memory."""

    content: bytes
    media_type: str
    tag: str


def add_pages(app: FastAPI) -> None:
    """Let an app serve the pages; they take what they show from the API."""
    contents = {path: (_FOLDER / name).read_bytes() for path, (name, _) in _FILES.items()}
    # The map is drawn as in `report.html`.
    contents["/item_map.js"] = files("pinsage.evaluation").joinpath("item_map.js").read_bytes()
    for path, content in contents.items():
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        app.add_api_route(
            path,
            _sender(_File(content, _media_type(path), tag)),
            methods=["GET"],
            include_in_schema=False,
        )


def _media_type(path: str) -> str:
    return _FILES[path][1] if path in _FILES else "text/javascript; charset=utf-8"


def _names(condition: str, tag: str) -> bool:
    """Say whether an `If-None-Match` names a tag; proxies that compress make it a weak one."""
    return any(one.strip().removeprefix("W/") in {tag, "*"} for one in condition.split(","))


def _sender(file: _File) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        # A browser may keep the file, but asks each time whether it is still the same.
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
        if _names(request.headers.get("if-none-match", ""), file.tag):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    return send
