"""Layerwise inference as Ray Data stages (paper, section 3.4)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow.parquet as pq
import ray
import ray.data
import torch

from pinsage.base.artifacts import Draft, whole_file
from pinsage.base.logs import Progress
from pinsage.cluster.session import require_cpus, threads_for
from pinsage.graph import Graph
from pinsage.inference.export import write_part
from pinsage.inference.layerwise import EmbedConfig, LayerwiseEncoder
from pinsage.model.checkpoint import load_model
from pinsage.sampling.neighborhood import Neighborhoods

Batch = dict[str, npt.NDArray[Any]]
Chunk = tuple[int, int]
"""The first item of a group, and the one after its last."""


@dataclass(frozen=True)
class EmbedSpec:
    """What every embedding actor is told.

    Attributes:
        graph: published directory.
        neighborhoods: published directory.
        model: published directory.
        folder: where rows lie between passes.
        parts: where the Parquet files go.
        config: settings of the stage.
    """

    graph: Path
    neighborhoods: Path
    model: Path
    folder: Path
    parts: Path
    config: EmbedConfig

    def encoder(self) -> LayerwiseEncoder:
        """Open everything."""
        torch.set_num_threads(threads_for(self.config.threads_per_worker, self.config.num_workers))
        return LayerwiseEncoder(
            load_model(self.model),
            Graph.open(self.graph).features_at_inference(),
            Neighborhoods.open(self.neighborhoods, at_inference=True),
            self.folder,
            num_neighbors=self.config.num_neighbors,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        )


class PassActor:
    """`LayerwiseEncoder` as a stateful `map_batches` stage: one row in is a chunk of items."""

    def __init__(self, spec: EmbedSpec, number: int) -> None:
        """Open the model and the tables.

        Args:
            spec: what to open.
            number: which pass to do.
        """
        self._spec = spec
        self._number = number
        self._encoder = spec.encoder()
        self._keys = _item_keys(spec.graph)

    def __call__(self, batch: Batch) -> Batch:
        """Do the chunks of a batch; each is marked as done once its rows are written."""
        for start, stop in zip(batch["start"], batch["stop"], strict=True):
            self._do(int(start), int(stop))
        return {"items": batch["stop"] - batch["start"]}

    def _do(self, start: int, stop: int) -> None:
        embeddings = self._encoder.run(self._number, start, stop)
        if embeddings is not None:
            with whole_file(_part(self._spec, start, stop)) as path:
                write_part(path, self._keys[start:stop], embeddings)
        else:
            _mark(self._spec, self._number, start, stop).touch()


def embed_all(spec: EmbedSpec, draft: Draft) -> None:
    """Run every pass in order; finished chunks of an earlier run are kept."""
    num_items = Graph.open(spec.graph).num_items
    require_cpus(
        spec.config.num_workers * spec.config.cpus_per_worker,
        purpose="embedding",
        setting="embed.num_workers",
    )
    size = spec.config.items_per_chunk
    chunks = [(start, min(start + size, num_items)) for start in range(0, num_items, size)]
    _remove_other_parts(spec, chunks)
    encoder = spec.encoder()
    with Progress("embed", num_items * encoder.num_passes, "rows") as progress:
        for number in range(encoder.num_passes):
            encoder.allocate(number)
            _run_pass(spec, number, chunks, progress)
    draft.counts |= {"items": num_items, "convolutions": num_items * (encoder.num_passes - 1)}


def _remove_other_parts(spec: EmbedSpec, chunks: list[Chunk]) -> None:
    """Drop the files of an earlier run that cut the items differently."""
    planned = {_part(spec, *chunk) for chunk in chunks}
    for path in spec.parts.glob("part-*.parquet"):
        if path not in planned:
            path.unlink()


def _run_pass(spec: EmbedSpec, number: int, chunks: list[Chunk], progress: Progress) -> None:
    todo = [chunk for chunk in chunks if not _is_done(spec, number, chunk)]
    progress.advance(chunks[-1][1] - sum(stop - start for start, stop in todo))
    if not todo:
        return
    _quiet_ray_data()
    done = ray.data.from_items(
        [{"start": start, "stop": stop} for start, stop in todo], override_num_blocks=len(todo)
    ).map_batches(
        PassActor,
        fn_constructor_args=(spec, number),
        batch_size=1,
        num_cpus=spec.config.cpus_per_worker,
        num_gpus=1 if ray.cluster_resources().get("GPU", 0) >= spec.config.num_workers else 0,
        compute=ray.data.ActorPoolStrategy(size=spec.config.num_workers),
    )
    for batch in done.iter_batches(batch_size=None):
        progress.advance(int(batch["items"].sum()))


def _is_done(spec: EmbedSpec, number: int, chunk: Chunk) -> bool:
    """Tell whether a pass has written a chunk: a mark, or from the last pass the file itself."""
    return _mark(spec, number, *chunk).exists() or _part(spec, *chunk).exists()


def _mark(spec: EmbedSpec, number: int, start: int, stop: int) -> Path:
    """Name a chunk by both its ends: a rerun may cut the items differently."""
    return spec.folder / f"pass-{number}-{start:012d}-{stop:012d}.done"


def _part(spec: EmbedSpec, start: int, stop: int) -> Path:
    return spec.parts / f"part-{start:012d}-{stop:012d}.parquet"


def _item_keys(graph: Path) -> Any:
    return pq.read_table(graph / "items.parquet", columns=["item_key"])["item_key"].combine_chunks()


def _quiet_ray_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
