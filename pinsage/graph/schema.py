"""What the input tables are (`DataConfig`), and the names inside a published graph."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from pinsage.base.addresses import TablePath
from pinsage.base.config import Config

SPLITS = ("train", "valid", "test")
"""The values of a pair's split."""

ITEM_KEY = "item_key"
"""Column of `items.parquet`: the caller's key, string or int64; row i is item id i."""

CONTEXT_KEY = "context_key"
"""Column of `contexts.parquet`: the caller's key as text, prefix included; row = context id."""

LOG_DEGREE = "log_degree"
"""The feature group added to every item: log(1 + degree in the training graph) (paper, 4.1)."""

STRUCTURE = "structure"
"""The optional feature group made from the training graph: see `graph/structure.py`."""

HELD_OUT_CONTEXT = "held_out_context"
"""Why edges are left out where whole contexts are held out."""

ITEMS_FILE = "items.parquet"
CONTEXTS_FILE = "contexts.parquet"
PAIRS_FILE = "pairs.parquet"

Scalar: TypeAlias = bool | int | float | str
FilterOperator: TypeAlias = Literal["=", "==", "!=", "<", ">", "<=", ">=", "in", "not in"]
Filter: TypeAlias = tuple[str, FilterOperator, Scalar | list[Scalar]]
"""Column, operator, value: what `pyarrow.parquet.read_table` calls a filter."""


def _tests(value: Any) -> Any:
    """Refuse what is not a list of tests as a whole, rather than part by part."""
    wanted = (
        "wanted a list of tests of a column, an operator and a value, as in [[rating, '>=', 4]]"
    )
    if not isinstance(value, list | tuple):
        raise ValueError(wanted)
    for test in value:
        if not isinstance(test, list | tuple) or len(test) != 3:
            raise ValueError(wanted)
        if test[1] in ("in", "not in") and not isinstance(test[2], list | tuple):
            raise ValueError(
                f"wanted a list behind `{test[1]}`, as in [[shelf, in, [read, owned]]]"
            )
    return value


Filters: TypeAlias = Annotated[tuple[Filter, ...], BeforeValidator(_tests)]
"""What rows of a table must all pass."""

Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]

GROUP_NAME = r"^[A-Za-z0-9_]+$"

TAKEN_GROUP_NAMES = {
    LOG_DEGREE,
    STRUCTURE,
    "pinsage",
    "popularity",
    "item_cosine",
    "transitions",
    "walk",
    "als",
    "bpr",
    "combined",
}
"""Groups made here, and methods that reports and servers name beside the groups."""


class FeatureConfig(Config):
    """One named group of content features: exactly one of `column` and `npy`."""

    name: str = Field(pattern=GROUP_NAME)
    """What the group is called, as in `visual` or `text`."""

    column: str | None = None
    """Column of the items table: lists of one constant width of float16, float32 or float64."""

    npy: TablePath | None = None
    """An .npy file, float [rows, width], whose rows are those of the items table in its order."""

    missing: Literal["refuse", "zeros"] = "refuse"
    """What becomes of an item whose row is null, empty or all NaN: `refuse` reports it as a bad
    row, `zeros` keeps it with zeros, as of an item that has no picture. A row with some of its
    numbers missing is a bad one either way."""

    @model_validator(mode="after")
    def _one_source(self) -> "FeatureConfig":
        if (self.column is None) == (self.npy is None):
            raise ValueError(f"feature group {self.name!r}: give exactly one of `column` and `npy`")
        if self.name in TAKEN_GROUP_NAMES:
            raise ValueError(f"feature group {self.name!r}: the name is taken; choose another")
        return self


class ItemsConfig(Config):
    """The items table: what can be recommended, one row each."""

    path: TablePath
    """A Parquet file, a directory of them, a glob, or a URI such as `s3://bucket/items/`."""

    key: str = "item_id"
    """Column of the unique item key: string, or any integer type."""

    title: str | None = None
    """Column shown as an item's name; without it, the key is."""

    image: str | None = None
    """Column of the URL of an item's picture."""

    metadata: tuple[str, ...] = ()
    """Columns kept beside the graph for serving and filters."""

    features: tuple[FeatureConfig, ...] = ()
    """Content features, in the order in which they are put side by side."""

    @model_validator(mode="after")
    def _distinct_groups(self) -> "ItemsConfig":
        names = [group.name for group in self.features]
        if len(set(names)) < len(names):
            raise ValueError(f"feature groups need distinct names, found {', '.join(names)}")
        return self


class EdgesConfig(Config):
    """One table of edges: an item was put in a context (a board, a reader's shelf, a basket)."""

    path: TablePath
    """A Parquet file, a directory of them, a glob, or a URI."""

    item: str = "item_id"
    """Column of the item's key, of the same kind (string or integer) as in the items table."""

    context: str = "context_id"
    """Column of the context's key: string, or any integer type."""

    timestamp: str | None = None
    """Column of the time the edge was made: a number, timestamp or ISO 8601 text. Splits go by
    it where pairs have a `timestamp` or there is no pairs table, and walks can prefer recent edges
    (`walk.choice.half_life`) if all edges tables have one."""

    weight: str | None = None
    """Column of how much the edge counts: numbers above 0; walks follow it
    (`walk.choice.by_weight`). The edges of a table without one weigh 1 each."""

    context_prefix: str = ""
    """Put before every context key, so that tables with equal keys keep contexts of their own."""

    where: Filters = ()
    """Rows to read, as `[[column, operator, value], ...]`, all of which must hold."""

    @model_validator(mode="after")
    def _two_keys(self) -> "EdgesConfig":
        if self.item == self.context:
            raise ValueError(f"wanted two columns, found `item` and `context` both {self.item!r}")
        return self


class PairsConfig(Config):
    """The table of labelled pairs: who likes `query` also likes `positive`.

    The split comes from `split`, or from quantiles of `timestamp`, or (neither given) from a keyed
    hash of the pair, in either order the same.
    """

    path: TablePath
    """A Parquet file, a directory of them, a glob, or a URI."""

    query: str = "query_item"
    """Column of the key of the item asked about."""

    positive: str = "positive_item"
    """Column of the key of the item that answers."""

    split: str | None = None
    """Column whose values are `train`, `valid` and `test`."""

    timestamp: str | None = None
    """Column of the time of the pair; edges at or after the first valid pair leave the graph, if
    edges have times."""

    context: str | None = None
    """Column of the key of the context a pair comes from; the edges of valid and test pairs' items
    in that context leave the graph."""

    context_prefix: str = ""
    """Put before every key in `context`; the same as that of the edges table meant."""

    where: Filters = ()
    """Rows to read, as `[[column, operator, value], ...]`, all of which must hold."""

    @model_validator(mode="after")
    def _one_split(self) -> "PairsConfig":
        if self.split is not None and self.timestamp is not None:
            raise ValueError("give `split` or `timestamp`, not both: each decides the split alone")
        return self

    @model_validator(mode="after")
    def _two_keys(self) -> "PairsConfig":
        if self.query == self.positive:
            raise ValueError(
                f"wanted two columns, found `query` and `positive` both {self.query!r}"
            )
        return self


class SplitConfig(Config):
    """Shares that are held out: of pairs or of contexts by hash, or by time.

    By time it is the pairs table's rows that are shared out, or without one the edges': pairs made
    of edges need an earlier edge of the same context, so more than these shares of them are late.
    """

    valid: Share = 0.1
    """Share for choosing settings and for early stopping."""

    test: Share = 0.1
    """Share for the reported figures; the latest where splits go by time. With 0 here and for
    `valid`, nothing is held out: all edges are in the graph, as one wants them for serving, and
    there is nothing to evaluate."""

    cold_items: Share = 0.0
    """Share of items, by a keyed hash of the key, that training does not see: the training graph
    has none of their edges, and no train pair has one of them. Their edges are kept beside the
    graph, and those items are embedded from their features and these edges. Valid and test pairs
    keep them, and the report looks at them by themselves."""

    @model_validator(mode="after")
    def _leaves_train(self) -> "SplitConfig":
        if self.valid + self.test >= 1:
            raise ValueError(f"valid + test must be below 1, found {self.valid + self.test:g}")
        if self.valid and not self.test:
            raise ValueError(
                f"test is 0 but valid is {self.valid:g}; hold both out, or neither to serve from "
                "all edges"
            )
        return self

    @property
    def holds_out(self) -> bool:
        """Whether pairs are held out where no column says which."""
        return self.test > 0


class DataConfig(Config):
    """The input tables and how they are split."""

    items: ItemsConfig
    """What can be recommended."""

    edges: tuple[EdgesConfig, ...] = Field(min_length=1)
    """What the graph is made of; all tables together."""

    pairs: PairsConfig | None = None
    """Labelled pairs. Without them, edges give them: with timestamps, an item and the next one of
    the same context (paper, 4.1), split by time; without, a random ring through the items of every
    context, where whole contexts are held out."""

    split: SplitConfig = SplitConfig()
    """What is held out where the pairs table has no split column."""

    on_bad_rows: Literal["fail", "drop"] = "fail"
    """Rows with null, repeated or unknown keys, or unusable numbers: refuse, or drop and count."""


class PairCounts(Config):
    """How many pairs there are of each split."""

    train: int
    valid: int
    test: int


class GraphCounts(Config):
    """`manifest.counts` of a published graph."""

    items: int
    contexts: int
    """Contexts with at least one edge in the training graph."""
    edges: int
    """Edges of the training graph, each counted once."""
    shards: int
    pairs: PairCounts
    feature_groups: dict[str, int]
    """Group name to width, in the order of the feature columns."""
    cold_items: int
    """Items without an edge in the training graph."""
    items_made_cold: int = 0
    """Of these, the ones that `data.split.cold_items` chose."""
    repeated_edges: int
    """Edge rows that repeat another one, and were merged with it."""
    left_out_edges: dict[str, int]
    """Why an edge is not in the training graph: `future`, `held_out_context`, `held_out_pair`,
    `cold_item`."""
    dropped: dict[str, int]
    """`table.reason` to rows dropped; empty unless `on_bad_rows` is `drop`."""

    @property
    def num_left_out(self) -> int:
        """How many edges the tables have that the training graph has not."""
        return sum(self.left_out_edges.values())
