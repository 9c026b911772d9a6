"""`Generation`: the published directories that are served together."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pinsage.base.addresses import shown
from pinsage.base.artifacts import is_published, open_manifest
from pinsage.base.errors import ArtifactError
from pinsage.base.shared import list_shared, read_shared
from pinsage.cluster.generations import GENERATION_VERSION, GENERATIONS, digest_of
from pinsage.evaluation.reading import read_report
from pinsage.graph import Catalog, Graph
from pinsage.retrieval import open_index
from pinsage.retrieval.index import Built
from pinsage.sampling.neighborhood import Neighborhoods

logger = logging.getLogger("pinsage.serve")

NEEDED_PARTS = ("graph", "neighborhoods", "index")
"""What answers are made from; the other parts are only named."""

_MADE_FROM = {
    "neighborhoods": ("graph",),
    # Not from its graph: training may have seen a part of it alone.
    "model": (),
    "embeddings": ("graph", "neighborhoods", "model"),
    "index": ("embeddings",),
}
"""What a part was made from must be what it is served beside."""


@dataclass(frozen=True)
class Parts:
    """What the file of a generation says: which published directories belong together."""

    path: Path
    """The file itself."""
    digest: str
    """The first 12 hex digits of its SHA-256; names the generation."""
    names: dict[str, str]
    """Stage to directory, relative to the run's folder."""

    @property
    def output(self) -> Path:
        """The run's folder."""
        return output_of(self.path)

    def directory(self, stage: str) -> Path:
        """Give the directory of one stage."""
        return self.output / self.names[stage]

    @property
    def directories(self) -> set[Path]:
        """The directories of all stages."""
        return {self.directory(stage) for stage in self.names}


@dataclass(frozen=True)
class Generation:
    """One generation, opened: the catalog and everything answers are computed from."""

    parts: Parts
    graph: Graph
    catalog: Catalog
    index: Built
    neighborhoods: Neighborhoods
    """Those of items made cold among them."""
    quality: dict[str, dict[str, float]]
    """Method to metric to value, from the report; empty without one that can be read."""

    @classmethod
    def open(cls, path: Path) -> "Generation":
        """Open what the file of a generation names, and check that it fits together.

        Args:
            path: the file.

        Raises:
            ArtifactError: the file or a directory it names is missing or damaged, or they are of
                different catalogs.
        """
        parts = read_parts(path)
        if "model" in parts.names and not is_published(parts.directory("model")):
            logger.warning(
                "%s: its model, %s, isn't a published directory, so nothing can be put or "
                "embedded; run the pipeline again",
                shown(path),
                shown(parts.directory("model")),
            )
        graph = Graph.open(parts.directory("graph"))
        neighborhoods = Neighborhoods.open(parts.directory("neighborhoods"), at_inference=True)
        index = open_index(parts.directory("index"))
        opened = {
            "graph": graph.num_items,
            "neighborhoods": len(neighborhoods.ids),
            "index": len(index.vectors),
        }
        _check_sizes(path, opened)
        _check_lineage(parts)
        return cls(parts, graph, graph.catalog(), index, neighborhoods, quality_of(parts))

    @property
    def counts(self) -> dict[str, int]:
        """Items, contexts and edges."""
        return {
            "items": self.graph.num_items,
            "contexts": self.graph.num_contexts,
            "edges": self.graph.num_edges,
        }


def output_of(path: Path) -> Path:
    """Give the run's folder of the newest generation's file, or of one in the folder of all."""
    return path.parent.parent if path.parent.name == GENERATIONS else path.parent


def read_parts(path: Path) -> Parts:
    """Read the file of a generation, and check that what it names is published.

    Raises:
        ArtifactError: it is missing or damaged, or names a directory that isn't published.
    """
    content = _read(path)
    names = _named_directories(path, content)
    missing = [stage for stage in NEEDED_PARTS if stage not in names]
    if missing:
        raise ArtifactError(
            f"{path}: wanted {', '.join(NEEDED_PARTS)}, found no {', '.join(missing)}; "
            "run the pipeline again"
        )
    parts = Parts(path, digest_of(content), names)
    if not _is_as_published(path, parts.digest):
        raise ArtifactError(
            f"{shown(path)}: its content would be generation {parts.digest}, so it was changed "
            "after it was published; run the pipeline again"
        )
    for stage in NEEDED_PARTS:
        if not is_published(parts.directory(stage)):
            raise ArtifactError(
                f"{shown(path)}: its {stage}, {shown(parts.directory(stage))}, isn't a published "
                "directory; run the pipeline again"
            )
    return parts


def _is_as_published(path: Path, digest: str) -> bool:
    """Compare a file with its name, and that of the newest generation with its copy."""
    if path.parent.name == GENERATIONS:
        return path.stem == digest
    kept = list_shared(path.parent / GENERATIONS)
    # Published before every generation had a file of its own, it has no copy.
    return not kept or f"{digest}.json" in kept


def _read(path: Path) -> bytes:
    try:
        content = read_shared(path)
        reason = "No such file or directory"
    except OSError as error:
        content, reason = None, str(error.strerror)
    if content is None:
        raise ArtifactError(
            f"{shown(path)}: cannot be read ({reason}), so there is nothing to serve yet; "
            "run `python -m ray_jobs.pipeline` with the same --config first"
        )
    return content


def _check_sizes(path: Path, sizes: Mapping[str, int]) -> None:
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{stage} {size}" for stage, size in sizes.items())
        raise ArtifactError(
            f"{path}: its parts are of different catalogs, by their number of items: {found}; "
            "run the pipeline again"
        )


def _check_lineage(parts: Parts) -> None:
    """Compare what each part was made from with the parts it stands beside."""
    manifests = {
        stage: open_manifest(parts.directory(stage), stage=stage)
        for stage in ("graph", *_MADE_FROM)
        if stage in parts.names and is_published(parts.directory(stage))
    }
    for stage, sources in _MADE_FROM.items():
        for source in sources:
            made_from = manifests[stage].parents.get(source) if stage in manifests else None
            if source in manifests and made_from not in {None, manifests[source].digest}:
                raise ArtifactError(
                    f"{parts.path}: its {stage} was made from another {source} than "
                    f"{parts.directory(source)}; run the pipeline again"
                )


def _named_directories(path: Path, content: bytes) -> dict[str, str]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ArtifactError(f"{path}: not JSON ({error}); run the pipeline again") from error
    if not isinstance(value, dict) or value.get("format_version") != GENERATION_VERSION:
        found = value.get("format_version") if isinstance(value, dict) else type(value).__name__
        raise ArtifactError(
            f"{path}: wanted format_version {GENERATION_VERSION}, found {found}; run the pipeline "
            "again"
        )
    return {stage: name for stage, name in value.items() if isinstance(name, str)}


def quality_of(parts: Parts) -> dict[str, dict[str, float]]:
    """Read the report's figures; without a report, or with a damaged one, there are none."""
    if "report" not in parts.names or not is_published(parts.directory("report")):
        return {}
    try:
        metrics = read_report(parts.directory("report"))["metrics"]
    except ArtifactError as error:
        # No answer is made from it.
        logger.warning("%s; until then there are no figures", error)
        return {}
    return {method: _numbers(values) for method, values in metrics.items()}


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
