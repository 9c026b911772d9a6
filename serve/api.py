"""The API and its pages over one generation; plain FastAPI, so it runs without Ray too."""

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, get_origin

from fastapi import Depends, FastAPI, Query, Request
from starlette.responses import Response

import pinsage
from pinsage.base.addresses import place_of, shown
from pinsage.base.errors import ConfigError
from pinsage.cluster.run_config import ServeConfig
from serve.answers import Answers
from serve.asked import AskedOfItems, with_writes
from serve.boundary import Boundary, allow_origins
from serve.current import Asked, Current, OneReference
from serve.filters import FilterError, read_filter
from serve.generation import Generation, Parts
from serve.item_keys import ItemKey
from serve.live import Writes
from serve.metrics import Metrics, add_metrics
from serve.pages import add_pages
from serve.problems import Code, answer_with_problems, described, invalid, with_refusals
from serve.quick import QuickSimilar
from serve.related import PINSAGE
from serve.routes_duel import add_duels, add_map
from serve.routes_embed import add_embed
from serve.routes_feed import add_feed
from serve.routes_generation import add_generation
from serve.routes_items import add_items
from serve.schemas import (
    FILTER_EXAMPLE,
    Health,
    Item,
    ItemList,
    Problem,
    Readiness,
    SimilarBatchReply,
    SimilarReply,
    SimilarRequest,
)
from serve.schemas_items import DescriptionReply
from serve.switching import Opening, Switcher

logger = logging.getLogger("pinsage.serve")

_DESCRIPTION = """\
Related items from a graph convolutional network (PinSage), beside simpler methods to compare with.

Item keys are those of the ingested table; in a path, write them percent-encoded (`a/b` as `a%2Fb`).
Every error is a JSON problem (RFC 9457) whose `code` is stable.
"""

FilterText = Annotated[
    str | None,
    Query(
        max_length=4000,
        description="Conditions on metadata that every answered item meets, as JSON.",
        examples=[json.dumps(FILTER_EXAMPLE)],
    ),
]
ExcludedKeys = Annotated[
    Sequence[str],
    Query(max_length=100, description="Key that isn't answered; may be given many times."),
]
Limit = Annotated[int, Query(ge=1, le=100, description="Items wanted, at most.")]


def build_api(
    generation: Generation, config: ServeConfig, *, names_requests: bool = True
) -> FastAPI:
    """Make the app that answers from one generation.

    Args:
        generation: what is served.
        config: limits and wording.
        names_requests: whether answers carry `x-request-id`; no where a proxy adds its own.
    """
    app = FastAPI(
        title=config.title,
        description=_DESCRIPTION,
        version=pinsage.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_check_parameters)],
        lifespan=_following,
        # Requests are counted and timed by `Boundary`, once.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    output = generation.parts.output
    check_folders(output, config)
    metrics = Metrics()
    first = Answers(generation, config, metrics)
    current = Current(first, metrics)
    writes = _opened_writes(config.writes or output / "writes", current, config)

    def opened(parts: Parts) -> Answers:
        # Written items are embedded by the new model before anybody waits for it.
        return writes.applied(Answers(Generation.open(parts.path), config, metrics))

    switcher = Switcher(
        current,
        first,
        output,
        Opening(opened, writes.applied),
        metrics,
        follow=config.follow,
    )
    app.state.current, app.state.switcher, app.state.writes = current, switcher, writes
    _add_related(app, config)
    _add_catalog(app)
    add_generation(app, switcher, timeout_s=config.boundary.request_timeout_s)
    _add_health(app)
    add_feed(app)
    votes = config.votes or output / "votes"
    add_duels(app, votes, num_items=config.duel_items)
    add_map(app)
    add_embed(app)
    _add_item(app)
    add_items(app, writes)
    add_pages(app)
    answer_with_problems(app)
    _describe_problems(app)
    if config.boundary.metrics:
        add_metrics(app, metrics)
    app.add_middleware(QuickSimilar, writes=writes)
    app.add_middleware(OneReference, current=current)
    app.add_middleware(Boundary, config=config, metrics=metrics, names_requests=names_requests)
    allow_origins(app, config.boundary)
    return app


def check_folders(output: Path, config: ServeConfig) -> None:
    """Refuse to keep in a bucket what is appended to under locks.

    Raises:
        ConfigError: the run's folder is in a bucket, and no other folder is named.
    """
    if place_of(output) is None:
        return
    for name, folder in (("writes", config.writes), ("votes", config.votes)):
        if folder is None and not (name == "writes" and config.read_only):
            raise ConfigError(
                f"serve.{name}: wanted a folder with locks, for {shown(output)} is in a bucket; "
                f"set it to a folder that all copies of the server share"
                + (", or set serve.read_only=true" if name == "writes" else "")
            )


def _opened_writes(folder: Path, current: Current, config: ServeConfig) -> Writes:
    """Put in force what was written before."""
    writes = Writes(folder, current, read_only=config.read_only)
    writes.catch_up()
    try:
        writes.compact()
    except OSError:
        # A full disk is no reason not to answer; the log stays as long as it is.
        logger.exception("%s: the log of writes can't be shortened", folder)
    return writes


@asynccontextmanager
async def _following(app: FastAPI) -> AsyncIterator[None]:
    """Follow what is decided elsewhere for as long as the app runs."""
    switcher: Switcher = app.state.switcher
    writes: Writes = app.state.writes
    switcher.start()
    writes.start()
    yield
    writes.stop()
    switcher.stop()


def _add_related(app: FastAPI, config: ServeConfig) -> None:
    default_k = min(config.default_k, config.max_k)
    count = Query(ge=1, le=config.max_k, description="Related items wanted.")
    method = Query(description="How to find them.")

    # These are plain functions: FastAPI runs them in threads, so that a search over a large
    # catalog doesn't keep other requests from being read.
    @app.get(
        "/v1/items/{item_key:path}/similar",
        summary="Items related to one item",
        tags=["Related items"],
        response_model=SimilarReply,
        responses=described(Code.UNKNOWN_ITEM, Code.INVALID_REQUEST),
    )
    def similar_items(
        answers: AskedOfItems,
        item_key: ItemKey,
        k: Annotated[int, count] = default_k,
        method: Annotated[str, method] = PINSAGE,
        filter: FilterText = None,
        exclude: ExcludedKeys = (),
    ) -> Response:
        """Give the k items most related to an item, best first, never the item itself.

        There are fewer than k if the method knows no more: a walk meets only so many items, and an
        item without edges or features has no walks or no features to compare.
        """
        wanted = answers.wanted(filter_of(filter), exclude)
        return _json(answers.similar([item_key], k, method, wanted)[0])

    @app.post(
        "/v1/similar",
        summary="Items related to each of several items",
        tags=["Related items"],
        response_model=SimilarBatchReply,
        responses=described(Code.UNKNOWN_ITEM, Code.BODY_TOO_LARGE, Code.INVALID_REQUEST),
    )
    def similar_to_each(http: Request, request: SimilarRequest) -> Response:
        """Answer the same question for many items at once, in the order of the keys.

        If any key is unknown, all unknown keys are listed and nothing is answered.
        """
        answers = with_writes(http, request.item_keys)
        wanted = answers.wanted(request.filter, request.exclude)
        results = answers.similar(request.item_keys, request.k, request.method, wanted)
        return _json(b'{"results":[%b]}' % b",".join(results))


def _add_catalog(app: FastAPI) -> None:
    @app.get(
        "/v1/search",
        summary="Find items by title",
        tags=["Catalog"],
        responses=described(Code.INVALID_REQUEST),
    )
    def search(
        answers: Asked,
        q: Annotated[
            str,
            Query(max_length=200, description="Words, or beginnings of words.", examples=["hung"]),
        ],
        limit: Limit = 10,
    ) -> ItemList:
        """Find items while their title is still being typed; case and accents don't matter."""
        return ItemList(items=answers.search(q, limit))

    @app.get(
        "/v1/items",
        summary="Items to start from",
        tags=["Catalog"],
        responses=described(Code.INVALID_REQUEST),
    )
    def starting_points(answers: Asked, limit: Limit = 24) -> ItemList:
        """Give well-connected items, from the best known towards rarer ones; always the same."""
        return ItemList(items=answers.starting_points(limit))


def _add_item(app: FastAPI) -> None:
    @app.get(
        "/v1/items/{item_key:path}/description",
        summary="What an item is made from",
        tags=["Catalog"],
        responses=described(Code.UNKNOWN_ITEM, Code.INVALID_REQUEST),
    )
    def description(answers: AskedOfItems, item_key: ItemKey) -> DescriptionReply:
        """Give an item's features, contexts and what is shown of it, in the form that `PUT` takes.

        `PUT` replaces an item whole: to change a part of it, put this with that part changed.
        """
        return answers.description(item_key)

    # After every longer path that begins so.
    @app.get(
        "/v1/items/{item_key:path}",
        summary="One item",
        tags=["Catalog"],
        responses=described(Code.UNKNOWN_ITEM, Code.INVALID_REQUEST),
    )
    def item(answers: AskedOfItems, item_key: ItemKey) -> Item:
        """Describe one item."""
        return answers.item(item_key)


def _add_health(app: FastAPI) -> None:
    @app.get("/healthz", summary="Is the server alive?", tags=["Operations"])
    async def healthz() -> Health:
        """Answer, and nothing else."""
        return Health()

    @app.get("/readyz", summary="Can the server answer?", tags=["Operations"])
    async def readyz(answers: Asked) -> Readiness:
        """Name the generation that is open; before there is one, nobody answers here."""
        return Readiness(generation=answers.digest)


async def _check_parameters(http: Request) -> None:
    """Refuse parameters of an address that a call with parameters has not, as bodies do.

    A condition under a mistyped name, or the first of two, would else be left out of the answer
    without a word.
    """
    known = {one.alias: one for one in http.scope["route"].dependant.query_params}
    unknown = next((name for name in http.query_params if known and name not in known), None)
    if unknown is not None:
        raise invalid(f"query.{unknown}", f"no such parameter; there are: {', '.join(known)}")
    for name, times in Counter(name for name, _ in http.query_params.multi_items()).items():
        if times > 1 and known and get_origin(known[name].field_info.annotation) is not Sequence:
            raise invalid(f"query.{name}", "given twice" if times == 2 else f"given {times} times")


def filter_of(text: str | None) -> dict[str, Any] | None:
    """Read the filter of a query string.

    Raises:
        ProblemError: it is not a JSON object.
    """
    if text is None:
        return None
    try:
        return read_filter(text)
    except FilterError as error:
        raise invalid("query.filter", error.message) from error


def _json(text: bytes) -> Response:
    return Response(text, media_type="application/json")


def _describe_problems(app: FastAPI) -> None:
    """Put the problem's schema into the API's description; no call returns it by type."""
    plain = app.openapi

    described_for = ""

    def openapi() -> dict[str, Any]:
        nonlocal described_for
        answers: Answers = app.state.current.now
        if app.openapi_schema is None or described_for != answers.digest:
            described_for, app.openapi_schema = answers.digest, None
            described_app = plain()
            _name_methods(described_app, [method.name for method in answers.methods])
            schemas = described_app["components"]["schemas"]
            schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas["Problem"] = {**schema, "x-codes": _codes()}
            for replaced in ("HTTPValidationError", "ValidationError"):
                schemas.pop(replaced, None)
            for calls in described_app["paths"].values():
                for call in calls.values():
                    # FastAPI's own guess, on a call whose only parameter takes any text.
                    if "application/json" in call["responses"].get("422", {}).get("content", {}):
                        del call["responses"]["422"]
                    call["responses"] = with_refusals(call["responses"])
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]


def _codes() -> list[dict[str, str | int]]:
    return [
        {"code": code.text, "status": code.value.status, "title": code.value.title} for code in Code
    ]


def _name_methods(described_app: dict[str, Any], names: list[str]) -> None:
    """Say what `method` may be: another generation may have other features to compare by."""
    parameters = described_app["paths"]["/v1/items/{item_key}/similar"]["get"]["parameters"]
    for parameter in parameters:
        if parameter["name"] == "method":
            named = ", ".join(f"`{name}`" for name in names)
            parameter["description"] = f"How to find them: {named}."
            parameter["schema"]["enum"] = names
