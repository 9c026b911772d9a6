"""Item keys as addresses hold them."""

from typing import Annotated
from urllib.parse import unquote

from fastapi import Path
from pydantic import AfterValidator


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
