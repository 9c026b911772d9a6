"""Which of two answers is more related? Questions for people, whose sides nobody can guess.

A question is a signed text: the replica that takes the vote need not be the one that asked, and
nobody can vote on what was never asked. Which method stands on the left follows from the secret.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import orjson

from serve.answers import Answers
from serve.problems import Code, ProblemError, invalid
from serve.related import PINSAGE

_TRIES = 40
_SIGN, _SIDES = b"sign:", b"sides:"


@dataclass(frozen=True)
class Question:
    """An item, and the two methods whose answers to it are compared."""

    generation: str
    query: str
    methods: tuple[str, str]
    num_items: int
    nonce: str

    def signed(self, secret: bytes) -> str:
        """Write it as the text that a vote must show."""
        fields = [self.generation, self.query, *self.methods, self.num_items, self.nonce]
        text = orjson.dumps(fields)
        return f"{_armored(text)}.{_armored(_mac(secret, _SIGN + text))}"

    def sides(self, secret: bytes) -> tuple[str, str]:
        """Say which method is shown on the left and which on the right."""
        flipped = _mac(secret, _SIDES + self.nonce.encode())[0] & 1
        return self.methods[::-1] if flipped else self.methods


@dataclass(frozen=True)
class Duel:
    """A question with what is shown."""

    question: Question
    query: dict[str, Any]
    left: list[dict[str, Any]]
    right: list[dict[str, Any]]


def read_question(signed: str, secret: bytes) -> Question:
    """Read a question that a vote shows.

    Raises:
        ProblemError: it wasn't asked here.
    """
    text, _, mac = signed.partition(".")
    try:
        content, given = _bare(text), _bare(mac)
    except ValueError:
        content, given = b"", b""
    if not hmac.compare_digest(given, _mac(secret, _SIGN + content)):
        raise invalid("duel", "wanted the `duel` of an answer to GET /v1/duel, unchanged")
    generation, query, first, second, num_items, nonce = orjson.loads(content)
    return Question(generation, query, (first, second), num_items, nonce)


def ask(
    answers: Answers,
    secret: bytes,
    *,
    num_items: int,
    pair: tuple[str | None, str | None] = (None, None),
    query: str | None = None,
) -> Duel:
    """Draw a question whose two answers differ.

    Args:
        answers: what is being served.
        secret: decides the sides.
        num_items: how many answers of each method are shown.
        pair: the methods, if they are chosen; else ours and any other.
        query: the item's key, if it is chosen; else a connected one, rather a well-known one.

    Raises:
        ProblemError: a method or the item is unknown, or the methods answer alike.
    """
    pairs = _pairs(answers, pair)
    secrets.SystemRandom().shuffle(pairs)
    # Of a chosen item, every pair is tried once.
    for number in range(_TRIES if query is None else len(pairs)):
        nonce = secrets.token_hex(16)
        rng = np.random.default_rng(int(nonce, 16))
        key = answers.starting_key(rng.random()) if query is None else query
        if key is None:
            break
        question = Question(answers.digest, key, pairs[number % len(pairs)], num_items, nonce)
        left, right = (
            orjson.loads(answers.similar([key], num_items, method)[0])
            for method in question.sides(secret)
        )
        shown = [[item["key"] for item in reply["items"]] for reply in (left, right)]
        if all(shown) and shown[0] != shown[1]:
            return Duel(question, left["query"], _bare_items(left), _bare_items(right))
    raise ProblemError(
        Code.NOTHING_TO_COMPARE,
        "The methods gave the same answers, or none, to all that was tried; choose another item "
        "or other methods.",
    )


def _pairs(answers: Answers, wanted: tuple[str | None, str | None]) -> list[tuple[str, str]]:
    names = [method.name for method in answers.methods]
    for where, name in zip(("method", "rival"), wanted, strict=True):
        if name is not None and name not in names:
            raise invalid(where, f"wanted one of {', '.join(names)}; found {name!r}")
    chosen = {name for name in wanted if name is not None}
    if wanted[0] is not None and wanted[0] == wanted[1]:
        raise invalid("rival", f"wanted another method than {wanted[0]}")
    pairs = [pair for pair in combinations(names, 2) if chosen <= set(pair)]
    ours = [pair for pair in pairs if PINSAGE in pair]
    if not pairs:
        raise ProblemError(Code.NOTHING_TO_COMPARE, "This generation has one method only.")
    return ours or pairs


def _bare_items(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """Leave the scores out: their scale would tell the method."""
    return [{name: v for name, v in item.items() if name != "score"} for item in reply["items"]]


def _mac(secret: bytes, text: bytes) -> bytes:
    return hmac.new(secret, text, hashlib.sha256).digest()


def _armored(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode("ascii")


def _bare(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
