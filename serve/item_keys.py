"""Item keys as addresses hold them."""

import re
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import Path
from pydantic import AfterValidator
from starlette.types import Scope

_KEYED = re.compile(rb"/v1/items/.")
_CUT_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)


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


def decoded_to_write(written: str) -> str:
    """Read a key that is written to, as the one address of it has it.

    What is only asked for may be written more freely: a mistake there makes no new item.

    >>> decoded_to_write("50%25%2Fa")
    '50%/a'

    Raises:
        ValueError: it is more than one part of the address, or not percent-encoded UTF-8.
    """
    if "/" in written:
        raise ValueError("wanted a key alone, found a slash; write one inside a key as %2F")
    if cut := _CUT_ESCAPE.search(written):
        raise ValueError(
            f"wanted two hexadecimal digits after each percent sign, found {cut[0]!r}; write a "
            "percent sign inside a key as %25"
        )
    if not written.isascii():
        raise ValueError("wanted UTF-8, percent-encoded")
    return decoded(written)


ItemKey = Annotated[
    str,
    Path(description="The item's key, percent-encoded.", examples=["1"]),
    AfterValidator(decoded),
]
WrittenKey = Annotated[
    str,
    Path(
        description="The item's key, percent-encoded; a slash inside it is `%2F`.", examples=["1"]
    ),
    AfterValidator(decoded_to_write),
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
