"""A small catalog to embed, and the comparison of what was published."""

from dataclasses import dataclass
from pathlib import Path

from pinsage.base.artifacts import Draft, publish
from pinsage.cluster.embedder import embed_all
from pinsage.cluster.run_config import RayConfig
from pinsage.inference.embedder import EmbedSpec
from pinsage.inference.layerwise import EmbedConfig

NUM_ITEMS = 40_000


@dataclass(frozen=True)
class Inputs:
    """A small catalog's graph and neighborhoods, and a model with random weights."""

    folder: Path
    graph: Path
    neighborhoods: Path
    model: Path

    def spec(self, draft: Draft, **settings: object) -> EmbedSpec:
        return EmbedSpec(
            graph=self.graph,
            neighborhoods=self.neighborhoods,
            model=self.model,
            folder=draft.scratch,
            parts=draft.path,
            config=EmbedConfig.model_validate(settings),
        )

    def embed(self, directory: Path, **settings: object) -> Path:
        """Publish embeddings."""
        with publish(directory, stage="embeddings", config={}, parents={}) as draft:
            embed_all(self.spec(draft, **settings), draft, RayConfig())
        return directory


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def assert_same(found: Path, expected: Path) -> None:
    """All files are equal, and the manifests but for the name of the directory."""
    one, other = bytes_of(found), bytes_of(expected)
    for files, directory in ((one, found), (other, expected)):
        files["manifest.json"] = files["manifest.json"].replace(directory.name.encode(), b"")
    assert one == other
