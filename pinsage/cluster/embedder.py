"""Layerwise inference as Ray Data stages (paper, section 3.4)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
import ray.data
import torch

from pinsage.base.artifacts import Draft, whole_file
from pinsage.base.logs import Progress
from pinsage.cluster.session import require_cpus, threads_for
from pinsage.graph import Graph
from pinsage.inference.export import write_part
from pinsage.inference.layerwise import EmbedConfig, LayerwiseEncoder, Pass, passes
from pinsage.model.checkpoint import load_model
from pinsage.sampling.neighborhood import Neighborhoods

Batch = dict[str, np.ndarray[Any, Any]]


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
            Graph.open(self.graph).features(),
            Neighborhoods.open(self.neighborhoods),
            self.folder,
            num_neighbors=self.config.num_neighbors,
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        )


class PassActor:
    """`LayerwiseEncoder` as a stateful `map_batches` stage: one row in is a chunk of items."""

    def __init__(self, spec: EmbedSpec, step: Pass | None) -> None:
        """Open the model and the tables.

        Args:
            spec: what to open.
            step: the pass to do; None turns the last layer's rows into Parquet files.
        """
        self._spec = spec
        self._step = step
        self._encoder = spec.encoder()
        self._keys: Any = None if step else _item_keys(spec.graph)

    def __call__(self, batch: Batch) -> Batch:
        """Do the chunks of a batch; each is marked as done once its rows are written."""
        for start, stop in zip(batch["start"], batch["stop"], strict=True):
            self._do(int(start), int(stop))
        return {"items": batch["stop"] - batch["start"]}

    def _do(self, start: int, stop: int) -> None:
        if self._step is None:
            embeddings = self._encoder.embed(start, stop)
            with whole_file(_part(self._spec, start)) as path:
                write_part(path, self._keys[start:stop], embeddings)
            return
        self._encoder.run(self._step, start, stop)
        _mark(self._spec, self._step, start).touch()


def embed_all(spec: EmbedSpec, draft: Draft) -> None:
    """Run every pass, then write the embeddings; finished chunks of an earlier run are kept."""
    model = load_model(spec.model)
    num_items = Graph.open(spec.graph).num_items
    num_layers = model.config.num_layers
    steps: list[Pass | None] = [*passes(num_layers), None]
    require_cpus(
        spec.config.num_workers * spec.config.cpus_per_worker,
        purpose="embedding",
        setting="embed.num_workers",
    )
    encoder = spec.encoder()
    with Progress("embed", num_items * len(steps), "rows") as progress:
        for step in steps:
            if step is not None:
                encoder.allocate(step)
            _run_pass(spec, step, num_items, progress)
    draft.counts |= {
        "items": num_items,
        "width": model.config.embedding_width,
        "convolutions": num_items * num_layers,
    }


def _run_pass(spec: EmbedSpec, step: Pass | None, num_items: int, progress: Progress) -> None:
    size = spec.config.items_per_chunk
    chunks = [
        {"start": start, "stop": min(start + size, num_items)}
        for start in range(0, num_items, size)
    ]
    todo = [chunk for chunk in chunks if not _is_done(spec, step, chunk["start"])]
    left = sum(chunk["stop"] - chunk["start"] for chunk in todo)
    progress.advance(num_items - left)
    if not todo:
        return
    _quiet_ray_data()
    done = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        PassActor,
        fn_constructor_args=(spec, step),
        batch_size=1,
        num_cpus=spec.config.cpus_per_worker,
        num_gpus=1 if ray.cluster_resources().get("GPU", 0) >= spec.config.num_workers else 0,
        compute=ray.data.ActorPoolStrategy(size=spec.config.num_workers),
    )
    for batch in done.iter_batches(batch_size=None):
        progress.advance(int(batch["items"].sum()))


def _is_done(spec: EmbedSpec, step: Pass | None, start: int) -> bool:
    return (_part(spec, start) if step is None else _mark(spec, step, start)).exists()


def _mark(spec: EmbedSpec, step: Pass, start: int) -> Path:
    return spec.folder / f"{step.name}-{start:012d}.done"


def _part(spec: EmbedSpec, start: int) -> Path:
    return spec.parts / f"part-{start:012d}.parquet"


def _item_keys(graph: Path) -> Any:
    return pq.read_table(graph / "items.parquet", columns=["item_key"])["item_key"].combine_chunks()


def _quiet_ray_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
