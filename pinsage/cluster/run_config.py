"""`RunConfig`: all the layers' settings in one tree, the content of a recipe."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    field_serializer,
    model_validator,
)

from pinsage.base.addresses import (
    FolderPath,
    LocalPath,
    StorageConfig,
    address_of,
    check_address,
    folder_of,
    place_of,
)
from pinsage.base.config import Config
from pinsage.base.logs import LogConfig
from pinsage.cluster.boundary_config import BoundaryConfig, ScalingConfig
from pinsage.cluster.stores import StoreConfig
from pinsage.cluster.trials import SearchConfig
from pinsage.evaluation.protocol import EvaluationConfig
from pinsage.graph.build import BuildConfig
from pinsage.graph.ingest import Order
from pinsage.graph.schema import DataConfig
from pinsage.graph.structure import StructureConfig
from pinsage.graph.subgraph import SubgraphConfig
from pinsage.inference.layerwise import EmbedConfig
from pinsage.model.encoder import ModelConfig
from pinsage.retrieval.index import IndexConfig
from pinsage.sampling.neighborhood import HardNegativeConfig, WalkConfig
from pinsage.training.loop import TrainConfig

Port = Annotated[int, Field(ge=1, le=65_535)]


class GraphConfig(Config):
    """How the graph is stored, and what it adds to the items' features."""

    num_shards: PositiveInt = 1
    """Pieces the graph and its features are cut into. No result depends on it, but a change
    publishes the graph, and all that is made from it, anew."""
    structure: StructureConfig | None = None
    """Features made from the training graph, as a group named `structure`; none adds none."""
    order: Order = "given"
    """How ids are given: `given` numbers items as their table does; `locality` puts those together
    that walks meet together, which makes walks and minibatches of large graphs with communities
    faster (`python -m benchmarks.locality`)."""
    build: BuildConfig = BuildConfig()


class RayConfig(Config):
    """Which Ray cluster runs the stages."""

    address: str = "auto"
    """`auto`: the cluster that a submitted job runs on, else one started here for this run;
    `local`: always start one here; or a cluster's address."""
    num_cpus: Annotated[int, Field(ge=2)] | None = None
    """CPUs that a cluster started here offers; none offers the machine's. At least two: a worker
    that holds the only one would starve every other part for ever."""
    object_store_bytes: PositiveInt = 512 * 2**20
    """Shared memory of a cluster started here."""


class ServeConfig(Config):
    """What the HTTP server allows, and how much of the cluster it takes."""

    title: str = "PinSage"
    """The name on the explorer page and on the API's description."""
    default_k: PositiveInt = 12
    """Recommendations given when a call does not say."""
    max_k: PositiveInt = 500
    """Most recommendations one item may be asked for."""
    max_item_keys: PositiveInt = 100
    """Most items one `POST /v1/similar` may ask about."""
    max_body_bytes: PositiveInt = 2**20
    """Longer request bodies are refused unread."""
    max_feature_bytes: PositiveInt = 2 * 2**30
    """A feature group that takes more memory is not offered as a method of comparison."""
    votes: LocalPath | None = None
    """Folder where votes on the comparison page are kept; None keeps them beside the generation.
    All copies of the server must see the same one. It must be named if `output` is in a bucket."""
    writes: LocalPath | None = None
    """Folder where items written while serving are kept; None keeps them beside the generation.
    All copies of the server must see the same one, on a file system with locks. It must be named if
    `output` is in a bucket."""
    read_only: bool = False
    """Refuse to write or delete items; what others write into the folder is followed."""
    duel_items: Annotated[int, Field(ge=1, le=10)] = 1
    """Answers of each method that a vote compares; the paper shows one (4.3)."""
    follow: Literal["pointer", "newest"] = "pointer"
    """Which generation is served: `pointer` serves what was decided last (`python -m serve.switch`,
    `POST /v1/generation`), and without a decision the newest one at the start; `newest` lets one
    that is published later go live by itself."""
    num_replicas: PositiveInt = 1
    """Copies of the server that share the requests."""
    max_ongoing_requests: PositiveInt = 64
    """Questions one copy answers at a time, and writes it takes at a time; more get a 503."""
    cpus_per_replica: Annotated[float, Field(ge=0)] = 0.25
    """CPUs that Ray counts for a copy; small, so that copies fit beside running jobs."""
    gpus_per_replica: Annotated[float, Field(ge=0)] = 0.0
    """GPUs that Ray counts for a copy, which then keeps its index there if that is a faiss one (but
    for HNSW); with a share, such as 0.25, copies use one together. With `--direct`, where Ray gives
    nothing, any GPU of the machine is used."""
    boundary: BoundaryConfig = BoundaryConfig()
    scaling: ScalingConfig | None = None
    """Start and stop copies as the load asks for; None keeps `num_replicas`."""


class ServeSection(ServeConfig):
    """The server, and where it listens."""

    host: str = "127.0.0.1"
    """Address to listen on; only this machine can reach the default."""
    port: Port = 8000
    """Port to listen on."""


class RunConfig(Config):
    """One run, from tables to a server."""

    name: str = "run"
    """What the run is called in reports."""
    output: FolderPath
    """Folder that every stage publishes into, or an address in a bucket, `s3://` or `gs://`."""
    storage: StorageConfig = StorageConfig()
    """Copies on this machine of what is in a bucket."""
    seed: NonNegativeInt = 0
    """Where all randomness begins."""
    data: DataConfig
    graph: GraphConfig = GraphConfig()
    subgraph: SubgraphConfig | None = None
    """Train on some contexts and all their items (paper, section 4.1); none trains on all."""
    walk: WalkConfig = WalkConfig()
    hard_negatives: HardNegativeConfig | None = HardNegativeConfig()
    """None does without hard negatives."""
    stores: StoreConfig = StoreConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    embed: EmbedConfig = EmbedConfig()
    index: IndexConfig = IndexConfig()
    evaluate: EvaluationConfig = EvaluationConfig()
    serve: ServeSection = ServeSection()
    ray: RayConfig = RayConfig()
    logs: LogConfig = LogConfig()

    @property
    def training_seed(self) -> int:
        """Where the randomness of training begins."""
        return self.seed if self.train.seed is None else self.train.seed

    @model_validator(mode="before")
    @classmethod
    def _output_stands_here(cls, tree: Any) -> Any:
        """Put the local folder that stands for an address in the address's place."""
        output = tree.get("output") if isinstance(tree, dict) else None
        if not isinstance(output, str) or "://" not in output:
            return tree
        told = tree.get("storage") or {}
        cache = told.get("cache") if isinstance(told, dict) else told.cache
        try:
            folder = folder_of(check_address(output), Path(cache or StorageConfig().cache))
        except ValueError as error:
            raise ValueError(f"output: {error}") from error
        return tree | {"output": folder}

    @field_serializer("output")
    def _output_as_given(self, output: Path) -> str:
        return address_of(output) or str(output)

    @model_validator(mode="after")
    def _fits_a_bucket(self) -> "RunConfig":
        if place_of(self.output) is not None and self.graph.build.spread:
            raise ValueError(
                "graph.build.spread wants an output folder that all nodes share, found a bucket; "
                "build on one node (graph.build.spread=false), or give a shared folder"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "RunConfig":
        for name, wanted in (
            ("train.minibatch.num_neighbors", self.train.minibatch.num_neighbors),
            ("embed.num_neighbors", self.embed.num_neighbors),
        ):
            if wanted is not None and wanted > self.walk.num_neighbors:
                raise ValueError(
                    f"{name} is {wanted}, but walk.num_neighbors keeps only "
                    f"{self.walk.num_neighbors}"
                )
        if self.train.minibatch.hidden_edges and not self.data.items.features:
            raise ValueError(
                "train.minibatch.hidden_edges wants content features, by which items are known "
                "whose edges are hidden; give data.items.features, or set it to 0"
            )
        if self.walk.choice.half_life is not None and None in {
            edges.timestamp for edges in self.data.edges
        }:
            raise ValueError(
                "walk.choice.half_life wants a time on every edge; give every table of data.edges "
                "a `timestamp`, or leave half_life out"
            )
        return self
