"""Item keys as addresses hold them."""

import re
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import Path
from pydantic import AfterValidator
from starlette.types import Scope

_KEYED = re.compile(rb"/v1/items/.")


def decoded(written: str) -> str:
    """Read a key out of an address.

    >>> decoded("a%2Fb")
    'a/b'

    Raises:
        ValueError: it is not UTF-8, so that several addresses would mean the same key.
    """
    try:
        return unquote(written, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("wanted UTF-8, percent-encoded") from None


ItemKey = Annotated[
    str,
    Path(description="The item's key, percent-encoded.", examples=["1"]),
    AfterValidator(decoded),
]
OtherKey = Annotated[
    str,
    Path(description="The other item's key, percent-encoded.", examples=["2"]),
    AfterValidator(decoded),
]


def with_encoded_key(scope: Scope) -> dict[str, Any]:
    """Route paths with an item key as they were written, so that `%2F` in a key isn't a slash.

    The calls decode the key themselves.
    """
    root = scope.get("root_path", "")
    path = scope["path"][len(root) :]
    raw: bytes = (scope.get("raw_path") or b"").partition(b"?")[0]
    written = raw[len(quote(root) if root else "") :] if raw else quote(path).encode()
    if not _KEYED.match(written):
        return dict(scope)
    return {**scope, "path": root + written.decode("latin-1")}
