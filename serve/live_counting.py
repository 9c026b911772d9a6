"""Which items put count in a generation, made ready for its answers."""

import logging
from collections.abc import Mapping
from datetime import datetime

from pydantic import ValidationError

from serve.answers import Answers
from serve.embedding import overflow
from serve.live_items import LiveItem
from serve.log import Record
from serve.problems import ProblemError
from serve.schemas_items import PutRequest

logger = logging.getLogger("pinsage.serve")


def made_items(
    answers: Answers, puts: Mapping[str, Record], ready: Mapping[str, LiveItem]
) -> dict[str, LiveItem]:
    """Make the items of a generation that were put and count.

    Args:
        answers: the generation's.
        puts: the last writes to their keys.
        ready: items that need no embedding any more.
    """
    counted = {key: record for key, record in puts.items() if not _is_taken_in(record, answers)}
    found = {
        key: request
        for key, record in counted.items()
        if key not in ready and (request := _fitting(answers, key, record)) is not None
    }
    made = answers.maker.make(found)
    for key in found.keys() - made.keys():
        _tell_left_out(answers, key, counted[key], overflow().detail)
    return {key: made.get(key) or ready[key] for key in counted if key in made or key in ready}


def _is_taken_in(record: Record, answers: Answers) -> bool:
    """Tell whether a batch run has taken in what was put, so that it counts no more."""
    if record["graph"] == answers.graph_digest or not answers.items.is_published(record["key"]):
        return False
    return answers.as_of > datetime.fromisoformat(record["at"]).timestamp()


def _fitting(answers: Answers, key: str, record: Record) -> PutRequest | None:
    """Read an item back, if it fits the generation: it was put on top of another one, maybe."""
    try:
        request = PutRequest.model_validate(record["item"])
        answers.maker.check(key, request)
    except (ValidationError, ProblemError) as error:
        reason = error.detail if isinstance(error, ProblemError) else str(error)
        _tell_left_out(answers, key, record, reason)
        return None
    return request


def _tell_left_out(answers: Answers, key: str, record: Record, reason: str) -> None:
    logger.error(
        "item %r, put at %s, doesn't fit generation %s and is left out (%s); put it again",
        key,
        record["at"],
        answers.digest,
        reason,
    )
