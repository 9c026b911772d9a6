"""What calls about items answer from: all writes to those that anybody was answered for before."""

from collections.abc import Sequence
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Request

from serve.answers import Answers
from serve.current import answer_from, answers_in
from serve.item_keys import decoded
from serve.live import Writes

_KEYS = ("item_key", "other_key")


def with_writes(http: Request, keys: Sequence[str]) -> Answers:
    """Give what a request about some items answers from; may read a file, so never in a loop."""
    writes: Writes = http.app.state.writes
    answers = writes.seen(answers_in(http.scope), keys)
    answer_from(http.scope, answers)
    return answers


async def _asked_of_items(http: Request) -> Answers:
    answers, writes = answers_in(http.scope), http.app.state.writes
    try:
        keys = [decoded(http.path_params[name]) for name in _KEYS if name in http.path_params]
    except ValueError:
        # Such a key is refused.
        return answers
    if not writes.lacks(answers, keys):
        return answers
    return await to_thread.run_sync(with_writes, http, keys)


AskedOfItems = Annotated[Answers, Depends(_asked_of_items)]
"""The parameter of a call about the items in its path; `Asked` is for calls about none."""
