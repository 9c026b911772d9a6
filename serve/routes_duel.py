"""The calls of the head-to-head comparison (paper, section 4.3), and the map's."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query
from starlette.responses import Response

from pinsage.evaluation.head_to_head import Tally, tally
from serve.current import Asked
from serve.duel import ask, read_question
from serve.problems import Code, ProblemError, described
from serve.schemas_duel import (
    DuelReply,
    MapReply,
    TallyInfo,
    TallyReply,
    VoteReply,
    VoteRequest,
)
from serve.votes import DuplicateVoteError, Vote, VoteLog

MethodName = Annotated[
    str | None, Query(max_length=100, description="A method; any if left out.", examples=["text"])
]
QueryKey = Annotated[
    str | None, Query(max_length=1000, description="The item asked about; any if left out.")
]
EveryGeneration = Annotated[
    bool, Query(description="Count votes on earlier generations too, not on this one alone.")
]


def add_duels(app: FastAPI, folder: Path, *, num_items: int) -> None:
    """Add them to an app.

    Args:
        app: the app.
        folder: where votes are kept.
        num_items: answers of each method that are shown; the paper shows one.
    """
    log = VoteLog(folder)

    @app.get(
        "/v1/duel",
        summary="Two answers to compare",
        tags=["Head to head"],
        responses=described(
            Code.UNKNOWN_ITEM, Code.NOTHING_TO_COMPARE, Code.INVALID_REQUEST, Code.VOTES_UNAVAILABLE
        ),
    )
    def duel(
        answers: Asked,
        response: Response,
        method: MethodName = None,
        rival: MethodName = None,
        item_key: QueryKey = None,
    ) -> DuelReply:
        """Draw an item and the answers of two methods to it, in random order and without scores.

        Which method gave which answer is told once the vote is cast.
        """
        with _votes_at_hand():
            secret = log.secret()
        found = ask(answers, secret, num_items=num_items, pair=(method, rival), query=item_key)
        response.headers["Cache-Control"] = "no-store"
        return DuelReply.model_validate({
            "duel": found.question.signed(secret),
            "query": found.query,
            "left": found.left,
            "right": found.right,
        })

    @app.post(
        "/v1/duel/votes",
        summary="Cast a vote",
        tags=["Head to head"],
        responses=described(Code.DUPLICATE_VOTE, Code.INVALID_REQUEST, Code.VOTES_UNAVAILABLE),
    )
    def vote(request: VoteRequest) -> VoteReply:
        """Keep a person's choice, durably, and tell which method stood where."""
        with _votes_at_hand():
            secret = log.secret()
        question = read_question(request.duel, secret)
        left, right = question.sides(secret)
        cast = Vote(
            duel=question.nonce,
            generation=question.generation,
            query=question.query,
            left=left,
            right=right,
            num_items=question.num_items,
            choice=request.choice,
            voter=request.voter,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            with _votes_at_hand():
                is_new = log.cast(cast)
        except DuplicateVoteError as error:
            raise ProblemError(Code.DUPLICATE_VOTE, f"Not counted: {error}.") from error
        return VoteReply(left=left, right=right, is_new=is_new)

    @app.get(
        "/v1/duel/votes",
        summary="What the votes add up to",
        tags=["Head to head"],
        responses=described(Code.INVALID_REQUEST, Code.VOTES_UNAVAILABLE),
    )
    def votes(answers: Asked, *, every_generation: EveryGeneration = False) -> TallyReply:
        """Count wins, losses and draws of each pair of methods, as Table 2 of the paper does."""
        with _votes_at_hand():
            cast, damaged = log.read()
        if not every_generation:
            cast = [vote for vote in cast if vote.generation == answers.digest]
        order = {method.name: place for place, method in enumerate(answers.methods)}
        counted = tally(((vote.left, vote.right, vote.choice) for vote in cast), order)
        return TallyReply(
            generation=None if every_generation else answers.digest,
            votes=len(cast),
            pairs=[_info(found) for found in counted],
            damaged_lines=damaged,
        )


def add_map(app: FastAPI) -> None:
    """Add the call that the map is drawn from."""

    @app.get(
        "/v1/map",
        summary="The map of the embeddings",
        tags=["Catalog"],
        response_model=MapReply,
        responses=described(Code.NO_MAP),
    )
    def embedding_map(answers: Asked) -> Response:
        """Give a sample of the catalog, laid out so that near items lie near each other."""
        return Response(answers.map_text, media_type="application/json")


def _info(found: Tally) -> TallyInfo:
    interval = found.interval
    return TallyInfo(
        method=found.method,
        rival=found.rival,
        wins=found.wins,
        losses=found.losses,
        equal=found.equal,
        win_fraction=found.win_fraction,
        interval=None if interval is None else list(interval),
    )


@contextmanager
def _votes_at_hand() -> Iterator[None]:
    """Answer with a problem where the file of votes cannot be used."""
    try:
        yield
    except OSError as error:
        raise ProblemError(
            Code.VOTES_UNAVAILABLE,
            f"Votes can't be kept now ({error.strerror or error}); the server's `serve.votes` "
            "folder must be writable.",
        ) from error
