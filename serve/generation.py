"""`Generation`: the published directories that are served together."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pinsage.base.artifacts import is_published
from pinsage.base.errors import ArtifactError
from pinsage.cluster.run import GENERATION_VERSION
from pinsage.graph import Catalog, Graph
from pinsage.retrieval import open_index
from pinsage.retrieval.index import Built
from pinsage.sampling.neighborhood import Neighborhoods

NEEDED_PARTS = ("graph", "neighborhoods", "index")
"""What answers are made from; the other parts are only named."""


@dataclass(frozen=True)
class Parts:
    """What `generation.json` says: which published directories belong together."""

    path: Path
    """The file itself."""
    digest: str
    """The first 12 hex digits of its SHA-256; names the generation."""
    names: dict[str, str]
    """Stage to directory, relative to the file."""

    def directory(self, stage: str) -> Path:
        """Give the directory of one stage."""
        return self.path.parent / self.names[stage]


@dataclass(frozen=True)
class Generation:
    """One generation, opened: the catalog and everything answers are computed from."""

    parts: Parts
    graph: Graph
    catalog: Catalog
    index: Built
    neighborhoods: Neighborhoods
    quality: dict[str, dict[str, float]]
    """Method to metric to value, from the report; empty without one."""

    @classmethod
    def open(cls, path: Path) -> "Generation":
        """Open what a `generation.json` names, and check that it fits together.

        Args:
            path: the file.

        Raises:
            ArtifactError: the file or a directory it names is missing or damaged, or they are of
                different catalogs.
        """
        parts = read_parts(path)
        graph = Graph.open(parts.directory("graph"))
        neighborhoods = Neighborhoods.open(parts.directory("neighborhoods"))
        index = open_index(parts.directory("index"))
        sizes = {
            "graph": graph.num_items,
            "neighborhoods": len(neighborhoods.ids),
            "index": len(index.vectors),
        }
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{stage} {size}" for stage, size in sizes.items())
            raise ArtifactError(
                f"{path}: its parts are of different catalogs, by their number of items: {found}; "
                "run the pipeline again"
            )
        return cls(parts, graph, graph.catalog(), index, neighborhoods, _quality(parts))

    @property
    def counts(self) -> dict[str, int]:
        """Items, contexts and edges."""
        return {
            "items": self.graph.num_items,
            "contexts": self.graph.num_contexts,
            "edges": self.graph.num_edges,
        }


def read_parts(path: Path) -> Parts:
    """Read a `generation.json`, and check that what it names is published.

    Raises:
        ArtifactError: it is missing or damaged, or names a directory that isn't published.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error.strerror}), so there is nothing to serve yet; "
            "run `python -m ray_jobs.pipeline` with the same --config first"
        ) from error
    names = _named_directories(path, content)
    missing = [stage for stage in NEEDED_PARTS if stage not in names]
    if missing:
        raise ArtifactError(
            f"{path}: wanted {', '.join(NEEDED_PARTS)}, found no {', '.join(missing)}; "
            "run the pipeline again"
        )
    parts = Parts(path, hashlib.sha256(content).hexdigest()[:12], names)
    for stage in NEEDED_PARTS:
        if not is_published(parts.directory(stage)):
            raise ArtifactError(
                f"{path}: its {stage}, {parts.directory(stage)}, isn't a published directory; "
                "run the pipeline again"
            )
    return parts


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


def _quality(parts: Parts) -> dict[str, dict[str, float]]:
    """Read the report's figures; a generation without a report has none."""
    if "report" not in parts.names:
        return {}
    path = parts.directory("report") / "report.json"
    if not path.exists():
        return {}
    try:
        metrics = json.loads(path.read_bytes())["metrics"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: no `metrics` in it ({error}); rerun evaluate") from error
    return {str(method): _numbers(values) for method, values in metrics.items()}


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
