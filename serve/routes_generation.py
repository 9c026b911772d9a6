"""The calls that say what is served, and switch it."""

from concurrent.futures import Future, wait
from pathlib import Path

from fastapi import FastAPI, Response

from pinsage.base.addresses import shown
from serve.current import Asked
from serve.generations import UnknownGenerationError, listed
from serve.problems import Code, ProblemError, described
from serve.schemas import GenerationInfo
from serve.schemas_generation import (
    FailedSwitch,
    GenerationList,
    PublishedGeneration,
    SwitchReply,
    SwitchRequest,
)
from serve.switching import DamagedGenerationError, OvertakenError, Switcher

_WAITED = 0.8
"""Share of the time a request may take that one waits for a generation to open."""


def add_generation(app: FastAPI, switcher: Switcher, *, timeout_s: float) -> None:
    """Add them to an app.

    Args:
        app: the app.
        switcher: what switches.
        timeout_s: how long a request may take.
    """

    @app.get("/v1/generation", summary="What is being served", tags=["Operations"])
    async def generation(answers: Asked) -> GenerationInfo:
        """Name the published directories answers come from, how large they are and how good."""
        return answers.generation()

    @app.get("/v1/generations", summary="What could be served", tags=["Operations"])
    def generations() -> GenerationList:
        """List the generations that are published, the newest first."""
        state = switcher.state
        return GenerationList(
            served=state.served,
            previous=state.previous,
            trouble=_inside(switcher.output, state.trouble),
            failed=state.failure
            and FailedSwitch(
                generation=state.failure.digest,
                reason=_inside(switcher.output, state.failure.reason) or "",
            ),
            generations=[
                PublishedGeneration(
                    generation=one.digest,
                    published_at=one.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    counts=one.counts,
                    quality=one.quality,
                    is_served=one.digest == state.served,
                    is_previous=one.digest == state.previous,
                    damage=_inside(switcher.output, one.damage),
                )
                for one in listed(switcher.output)
            ],
        )

    @app.post(
        "/v1/generation",
        summary="Serve another generation",
        tags=["Operations"],
        responses={
            202: {"model": SwitchReply, "description": "It is still being opened"},
            **described(
                Code.UNKNOWN_GENERATION,
                Code.DAMAGED_GENERATION,
                Code.NO_PREVIOUS_GENERATION,
                Code.SWITCH_OVERTAKEN,
                Code.INVALID_REQUEST,
                Code.SWITCH_UNAVAILABLE,
            ),
        },
    )
    def switch(request: SwitchRequest, response: Response) -> SwitchReply:
        """Open a published generation beside the one that is served, and swap them whole.

        No request fails meanwhile, and none is answered from two generations. If it can't be
        opened, what is served stays. The decision is kept: a server that is started again serves
        what was decided last. The one before stays open, so that going back takes a moment. The
        header `x-pinsage-generation` of this answer still names what was served when it was asked.
        """
        digest = request.generation or _previous(switcher)
        begun = switcher.begin(digest)
        wait([begun], _WAITED * timeout_s)
        if not begun.done():
            response.status_code = 202
            return SwitchReply(generation=digest, state="opening")
        _raise_problem(begun, switcher.output)
        return SwitchReply(generation=digest, state="served")


def _previous(switcher: Switcher) -> str:
    state = switcher.state
    if state.previous is not None:
        return state.previous
    found = (
        f"Generation {state.served} is the first that is served here"
        if state.trouble is None
        else f"Nobody knows what was served before {state.served}, because the decision that was "
        "written down is of no use: GET /v1/generations says why"
    )
    raise ProblemError(
        Code.NO_PREVIOUS_GENERATION,
        f"{found}; name another one, of those that GET /v1/generations lists.",
    )


def _inside(output: Path, text: str | None) -> str | None:
    """Name files by their place in the run's folder: where that is concerns no caller."""
    for place in (str(output), shown(output)):
        text = text and text.replace(f"{place}/", "").replace(place, "the run's folder")
    return text


def _raise_problem(ended: Future[None], output: Path) -> None:
    try:
        ended.result()
    except UnknownGenerationError as error:
        raise ProblemError(
            Code.UNKNOWN_GENERATION,
            f"No generation {error.digest} is published; GET /v1/generations lists those there "
            "are.",
        ) from error
    except DamagedGenerationError as error:
        raise ProblemError(
            Code.DAMAGED_GENERATION,
            f"What is served stays in force: {_inside(output, str(error))}.",
        ) from error
    except OvertakenError as error:
        raise ProblemError(
            Code.SWITCH_OVERTAKEN, f"Nothing was changed: {error}; ask again if it is still wanted."
        ) from error
    except OSError as error:
        raise ProblemError(
            Code.SWITCH_UNAVAILABLE,
            f"The decision can't be written down ({error.strerror or error}); the run's folder "
            "must be writable to the server.",
        ) from error
