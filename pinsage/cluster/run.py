"""`Run`: which directory every stage of a run publishes, and what each is made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pinsage.base.addresses import shown
from pinsage.base.artifacts import (
    Artifact,
    Manifest,
    fingerprint,
    is_published,
    list_published,
    open_artifact,
    open_manifest,
)
from pinsage.base.config import Config, dump_config
from pinsage.base.copies import set_limit
from pinsage.base.errors import ArtifactError
from pinsage.base.shared import read_shared, write_shared
from pinsage.cluster.generations import publish_generation
from pinsage.cluster.run_config import RunConfig
from pinsage.graph.ingest import Inputs, look_at_inputs
from pinsage.inference.update import PreviousEmbeddings

_TRAIN_RESULT = ("minibatch", "loss", "schedule", "scale_features", "validation")
"""The training settings that change the weights; the others say how and where it runs. Rounding is
the exception: workers add up gradients in another order, and GPUs compute in bf16."""

_EMBED_RESULT = ("num_neighbors", "dtype", "contexts", "keep_rows", "previous")
"""The embedding settings that change what is published; with `previous`, by rounding only."""

_PAIRS_BY_TIME = 2
"""How pairs are made of edges with times; raised with every change, so that older graphs, whose
pairs are others, are not found. 2: items of one time stand in a random order."""

_MEASURES = 2
"""How reports measure, likewise. 2: what a method knows nothing of is ranked last and in no list,
and intervals go by held-out context."""

_METHOD_SETTINGS = {"walk": "pixie", "als": "als", "bpr": "bpr"}
"""Which of the evaluation's settings are those of one baseline alone."""


@dataclass(frozen=True)
class Stage:
    """One stage of one run.

    Attributes:
        name: the stage's name, and its folder's.
        directory: `<output>/<name>/<fingerprint>`.
        config: the settings its result depends on.
        parents: the stages it reads.
    """

    name: str
    directory: Path
    config: dict[str, Any]
    parents: tuple["Stage", ...]

    @property
    def is_done(self) -> bool:
        """Tell whether it is published."""
        return is_published(self.directory)

    def open(self, *, check_digests: bool = False) -> Artifact:
        """Open what it published.

        Raises:
            ArtifactError: it has not finished, or its files were damaged.
        """
        return open_artifact(self.directory, stage=self.name, check_digests=check_digests)

    def manifest(self) -> Manifest:
        """Read what it published says of itself; of a bucket, nothing else is fetched.

        Raises:
            ArtifactError: it has not finished.
        """
        return open_manifest(self.directory, stage=self.name)

    def open_parents(self) -> dict[str, Artifact]:
        """Open all that it reads; a model, which is small, is read whole and compared."""
        return {
            parent.name: parent.open(check_digests=parent.name == "model")
            for parent in self.parents
        }


def combined_config(config: RunConfig) -> RunConfig:
    """Give the settings of the run that trains Combined; see `Run.combined`."""
    return config.model_copy(
        update={
            "graph": config.graph.model_copy(update={"structure": None}),
            "model": config.model.model_copy(update={"num_layers": 0}),
            "embed": config.embed.model_copy(update={"model": None, "previous": None}),
        }
    )


class Run:
    """The stages of one configuration, from tables to report."""

    def __init__(self, config: RunConfig) -> None:
        """Hold the settings; nothing is read yet."""
        self.config = config
        self.output = config.output.resolve()

    @cached_property
    def inputs(self) -> Inputs:
        """The tables' files as they are now."""
        return look_at_inputs(self.config.data)

    @cached_property
    def graph(self) -> Stage:
        """Tables, checked, with dense ids, as a graph in shards."""
        settings = {
            "data": _dump(self.config.data),
            "inputs": self.inputs.facts,
            "num_shards": self.config.graph.num_shards,
            "structure": _dump(self.config.graph.structure, without=("basis",)),
            "order": self.config.graph.order,
            "seed": self.config.seed,
        }
        data = self.config.data
        if data.pairs is None and all(edges.timestamp for edges in data.edges):
            settings["pairs_by_time"] = _PAIRS_BY_TIME
        basis = self.structure_basis()
        return self._stage("graph", settings, () if basis is None else (basis,))

    def structure_basis(self) -> Stage | None:
        """Find the graph that `graph.structure.basis` names.

        Raises:
            ArtifactError: it is not there, or has structural features of other settings.
        """
        structure = self.config.graph.structure
        if structure is None or structure.basis is None:
            return None
        setting = "graph.structure.basis"
        found = self._published("graph", structure.basis, setting=setting)
        wanted = _dump(structure, without=("basis",))
        if found.config.get("structure") != wanted:
            raise ArtifactError(
                f"{setting}: {shown(found.directory)} has graph.structure "
                f"{found.config.get('structure')}, found {wanted} here; use the same"
            )
        return found

    @cached_property
    def neighborhoods(self) -> Stage:
        """Importance neighborhoods and hard-negative candidates of every item."""
        return self._neighborhoods_of(self.graph)

    @cached_property
    def training_graph(self) -> Stage:
        """What training sees of the graph: all of it, or the graph of some contexts."""
        if self.config.subgraph is None:
            return self.graph
        settings = {"subgraph": _dump(self.config.subgraph), "seed": self.config.seed}
        return self._stage("graph", settings, (self.graph,))

    @cached_property
    def training_neighborhoods(self) -> Stage:
        """Neighborhoods in the training graph."""
        if self.config.subgraph is None:
            return self.neighborhoods
        return self._neighborhoods_of(self.training_graph)

    @cached_property
    def model(self) -> Stage:
        """The trained network, or one that was published before."""
        if self.config.embed.model is not None:
            return self._published("model", self.config.embed.model, setting="embed.model")
        train = _dump(self.config.train) or {}
        if not train["minibatch"]["hidden_edges"]:
            # Models of before it was a setting are the same.
            del train["minibatch"]["hidden_edges"]
        settings = {
            "model": _dump(self.config.model),
            "train": {name: train[name] for name in _TRAIN_RESULT},
            "seed": self.config.training_seed,
        }
        parents = (self.training_graph, self.training_neighborhoods)
        return self._stage("model", settings, parents)

    @cached_property
    def embeddings(self) -> Stage:
        """One embedding an item."""
        embed = self.config.embed
        settings = {name: getattr(embed, name) for name in _EMBED_RESULT}
        return self._stage("embeddings", settings, (self.graph, self.neighborhoods, self.model))

    def _previous(self) -> "Stage | None":
        previous = self.config.embed.previous
        if previous is None:
            return None
        return self._published("embeddings", previous, setting="embed.previous")

    def check_previous(self) -> None:
        """Stop before hours of work if what `embed.previous` names is of no use.

        Raises:
            ArtifactError: there is no such thing, or it was made without what updates compare.
        """
        found = self._previous()
        if found is not None:
            PreviousEmbeddings.open(found.directory)

    def previous_embeddings(self) -> Artifact | None:
        """Open the embeddings that `embed.previous` names.

        Raises:
            ArtifactError: they are not there, or another model or T has made them.
        """
        embed = self.config.embed
        stage = self._previous()
        if stage is None:
            return None
        found = stage.open()
        model = self.model.open().manifest.digest
        if found.manifest.parents["model"] != model:
            raise ArtifactError(
                f"{found.path}: made by another model than {self.model.directory}, so nothing of "
                "it can be kept; set embed.model to the one that made it, or leave embed.previous "
                "out"
            )
        for name in ("num_neighbors", "dtype"):
            before, now = found.manifest.config[name], getattr(embed, name)
            if before != now:
                raise ArtifactError(
                    f"{found.path}: made with embed.{name} {before}, found {now} here; use the "
                    "same, or leave embed.previous out"
                )
        return found

    @cached_property
    def index(self) -> Stage:
        """A search structure over the embeddings."""
        return self._stage("index", _dump(self.config.index) or {}, (self.embeddings,))

    @cached_property
    def report(self) -> Stage:
        """How good the recommendations are."""
        baselines = self.config.evaluate.baselines
        unused = {name for method, name in _METHOD_SETTINGS.items() if method not in baselines}
        evaluate = _dump(self.config.evaluate, without=("device", *unused)) or {}
        evaluate.get("als", {}).pop("num_threads", None)
        settings = {
            "name": self.config.name,
            "evaluate": evaluate,
            "measures": _MEASURES,
            "seed": self.config.seed,
        }
        if "combined" in baselines:
            settings["combined"] = self.combined.embeddings.directory.name
        return self._stage("report", settings, (self.graph, self.embeddings))

    @cached_property
    def combined(self) -> "Run":
        """The run that trains the paper's Combined baseline: an MLP on content, on the same pairs.

        Features made from the graph are left out, since Combined knows content and degrees alone.
        So are a model and embeddings that the run takes as they were published: they are PinSage's.
        """
        return Run(combined_config(self.config))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in the order they run; a report only where something is held out."""
        made = (self.graph, self.neighborhoods, self.model, self.embeddings, self.index)
        return (*made, self.report) if self.evaluates else made

    @property
    def evaluates(self) -> bool:
        """Whether pairs are held out to evaluate with, by shares or by a column that tells."""
        data = self.config.data
        return data.split.holds_out or (data.pairs is not None and data.pairs.split is not None)

    @property
    def checkpoints(self) -> Path:
        """Where the states of an unfinished training are published."""
        return self.output / "checkpoints" / self.model.directory.name

    def save_config(self) -> None:
        """Keep the resolved settings in `<output>/config.yaml`, which is a recipe too."""
        self.output.mkdir(parents=True, exist_ok=True)
        path, content = self.output / "config.yaml", dump_config(self.config).encode()
        # A finished run may stand where nothing can be written.
        if read_shared(path) != content:
            write_shared(path, content)
        set_limit(self.output, self.config.storage)

    def publish_generation(self) -> Path:
        """Name the directories that a server serves together, in one step."""
        return publish_generation(
            self.output, {stage.name: stage.directory for stage in self.stages}
        )

    def _neighborhoods_of(self, graph: Stage) -> Stage:
        settings = {
            "walk": _dump(self.config.walk, without=("items_per_chunk",)),
            "hard_negatives": _dump(self.config.hard_negatives),
            "seed": self.config.seed,
        }
        return self._stage("neighborhoods", settings, (graph,))

    def _published(self, name: str, print_: str, *, setting: str) -> Stage:
        """Find a stage by its fingerprint, among what this output folder has."""
        directory = self.output / name / print_
        if directory.parent != self.output / name or not is_published(directory):
            folders = [path.name for path in list_published(self.output / name)]
            raise ArtifactError(
                f"{setting}: no {name} published as {shown(directory)}; found "
                f"{folders or 'none'} there"
            )
        return Stage(name, directory, open_manifest(directory, stage=name).config, ())

    def _stage(self, name: str, settings: dict[str, Any], parents: tuple[Stage, ...]) -> Stage:
        parent_prints = {parent.name: parent.directory.name for parent in parents}
        directory = self.output / name / fingerprint(name, settings, parent_prints)
        return Stage(name, directory, settings, parents)


def require(stage: Stage) -> None:
    """Stop a job whose parents have not run.

    Raises:
        ArtifactError: a parent is not published; the message says which job makes it.
    """
    jobs = {"graph": "ingest", "neighborhoods": "walk", "model": "train", "embeddings": "embed"}
    for parent in stage.parents:
        if not parent.is_done:
            raise ArtifactError(
                f"{stage.name} reads {parent.name}, which is not published for this configuration "
                f"(looked for {shown(parent.directory)}); run "
                f"`python -m ray_jobs.{jobs[parent.name]}` "
                "or `python -m ray_jobs.pipeline` with the same --config first"
            )


def require_same_parents(stage: Stage) -> None:
    """Stop where a published stage was made from other parents than are published now.

    Raises:
        ArtifactError: one was made anew since; the message says what to delete.
    """
    made_from = stage.manifest().parents
    for parent in stage.parents:
        if made_from.get(parent.name) not in {None, parent.manifest().digest}:
            raise ArtifactError(
                f"{shown(stage.directory)}: wanted one made from {shown(parent.directory)}, found "
                f"one made from another {parent.name}, which that has replaced; delete "
                f"{shown(stage.directory)} and run this again"
            )


def _dump(config: Config | None, without: tuple[str, ...] = ()) -> dict[str, Any] | None:
    if config is None:
        return None
    dumped: Mapping[str, Any] = config.model_dump(mode="json")
    return {name: value for name, value in dumped.items() if name not in without}
