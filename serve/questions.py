"""Which calls are questions: they change nothing, so they may be asked twice."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_BY_POST = frozenset({"/v1/similar", "/v1/homefeed", "/v1/embed"})
"""A vote isn't one of them."""


def changes_something(method: str, path: str) -> bool:
    """Say whether a call changes anything.

    Args:
        method: the HTTP method.
        path: the path, without a prefix.
    """
    return method not in _SAFE and not (method == "POST" and path in _BY_POST)
