"""Layerwise inference as Ray Data stages (paper, section 3.4).

The work is a list of passes over items, cut into chunks. A chunk's mark is set once its rows
are written, and holds its receipt. A run that was killed anywhere does what has no mark yet, and
ends with the same bytes as one that was not.
"""

import logging
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import ray.data
import torch

from pinsage.base import shared
from pinsage.base.artifacts import Draft
from pinsage.base.errors import PinsageError
from pinsage.base.logs import Progress
from pinsage.cluster import metrics
from pinsage.cluster.gpus import find_gpu
from pinsage.cluster.placement import require_room, workers_a_node
from pinsage.cluster.run_config import RayConfig
from pinsage.cluster.session import session, threads_for
from pinsage.graph.schema import ITEMS_FILE
from pinsage.inference.embedder import Embedder, EmbedSpec
from pinsage.inference.exchange import MARK_SUFFIX, Exchange
from pinsage.inference.export import PART_SUFFIX
from pinsage.inference.layerwise import LayerwiseEncoder
from pinsage.inference.marks import Chunk, Marks, Pass
from pinsage.inference.update import (
    PRINTS_FILE,
    PreviousEmbeddings,
    Update,
    hidden_name,
    item_keys_of,
    plan_update,
    print_items,
)

_log = logging.getLogger(__name__)

_SMALL = 10**12
"""Multiplications of matrix products that one process does in less than about half a minute."""

_SETTLING = 2
"""Chunks that are written down at a time."""

Batch = dict[str, npt.NDArray[Any]]


@lru_cache(maxsize=1)
def _opened(spec: EmbedSpec, run: str) -> Embedder:
    """Open everything once a process and run, not once a pass."""
    del run
    beside = workers_a_node(
        spec.config.num_workers or 1, ray.nodes() if ray.is_initialized() else []
    )
    torch.set_num_threads(threads_for(spec.config.threads_per_worker, beside))
    Exchange(spec.folder).begin()
    return Embedder(spec, _load_update(spec), on_gpu=True)


def do_chunks(batch: Batch, spec: EmbedSpec, run: str, name: str) -> Batch:
    """Do the chunks of a batch, and give their rows and, pickled, the error that ended the work.

    Ray Data would wrap it in one of its own, in which nobody finds what was raised.
    """
    try:
        _do_and_mark(batch, spec, run, name)
    except (PinsageError, OSError) as error:
        failed = pickle.dumps(error)
    else:
        failed = b""
    rows = batch["stop"] - batch["start"]
    return {"rows": rows, "error": np.array([failed] * len(rows), object)}


def _do_and_mark(batch: Batch, spec: EmbedSpec, run: str, name: str) -> None:
    """Do the chunks of a batch; each is marked as done once its rows are written.

    With a bucket, this node may have neither the files nor what the pass before has put there.
    """
    spec.folder.mkdir(parents=True, exist_ok=True)
    embedder, exchange = _opened(spec, run), Exchange(spec.folder)
    _make_ready(embedder, exchange, name)
    marks = Marks(spec.folder)
    for start, stop in zip(batch["start"].tolist(), batch["stop"].tolist(), strict=True):
        # A worker that is lost just after it has marked a chunk has not said so to Ray. With a
        # bucket, only a mark in it counts: one left here may be of rows that it does not hold.
        if not shared.is_stored(marks.path(name, (start, stop))):
            receipt = embedder.do(name, start, stop)
            for file in embedder.written_by(name):
                exchange.give(file, start, stop)
            part = embedder.part_of(name, start, stop)
            if part is not None:
                shared.push(part)
            metrics.count("embed_rows_total", stop - start, stage=name)
            marks.set(name, (start, stop), receipt)
        shared.push(marks.path(name, (start, stop)))
    metrics.tell_traffic()


def _make_ready(embedder: Embedder, exchange: Exchange, name: str) -> None:
    """Have the files here that a pass fills and reads, with all rows of the passes before."""
    before = embedder.pass_before(name)
    with exchange.sole():
        if exchange.is_open and before is not None:
            embedder.begin(before)
            for file in embedder.written_by(before):
                exchange.take(file)
        embedder.begin(name)
    if before is not None:
        embedder.see_rows_of(before)


class ChunkActor:
    """`Embedder` as a stateful `map_batches` stage: one row in is a chunk."""

    def __init__(self, spec: EmbedSpec, run: str, name: str) -> None:
        """Open the model and the tables."""
        _opened(spec, run)
        self._chunk_of = (spec, run, name)

    def __call__(self, batch: Batch) -> Batch:
        """Do the chunks of a batch."""
        return do_chunks(batch, *self._chunk_of)


def embed_all(
    spec: EmbedSpec, draft: Draft, cluster: RayConfig, *, here: bool | None = None
) -> None:
    """Run every pass in order; finished chunks of an earlier run are kept.

    Args:
        spec: what to embed, and where the files go.
        draft: takes the counts.
        cluster: which Ray cluster has the workers.
        here: whether this process does all the work; None leaves it to `embeds_here`.

    Raises:
        ArtifactError: what is read is damaged, or does not belong together.
        ResourceError: the cluster has no room for the workers in time.
    """
    embedder = Embedder(spec)
    if spec.config.keep_rows:
        draft.write_array(PRINTS_FILE, _prints(spec, embedder))
    if spec.previous is not None:
        _plan_update(spec, embedder)
    if here is None:
        here = embeds_here(spec.config.num_workers, embedder.graph.num_items, embedder.model)
    # Where workers compute, a GPU is theirs.
    if spec.previous is not None or (here and torch.cuda.is_available()):
        embedder = Embedder(spec, _load_update(spec), on_gpu=here)
    if here:
        torch.set_num_threads(threads_for(spec.config.threads_per_worker, 1))
    with nullcontext() if here else session(cluster):
        use_gpu = not here and _uses_gpu(spec, embedder)
        receipts = _run_passes(spec, embedder, here=here, use_gpu=use_gpu)
    shared.pull(spec.parts, suffix=PART_SUFFIX)
    if spec.config.keep_rows:
        _publish_hidden(spec, embedder.encoder, draft)
    _count(draft, embedder, receipts)


def embeds_here(num_workers: int | None, num_items: int, model: torch.nn.Module) -> bool:
    """Decide whether this process does all the work: it would be done before workers start.

    Args:
        num_workers: actors asked for; None leaves it to this decision.
        num_items: how many items there are.
        model: its weights say how many multiplications an item takes.
    """
    weights = sum(weight.numel() for weight in model.parameters())
    return num_workers is None and num_items * weights <= _SMALL


def _uses_gpu(spec: EmbedSpec, embedder: Embedder) -> bool:
    """Decide whether the workers of all passes compute on a GPU each."""
    most = max(len(each.chunks()) for each in embedder.passes())
    gpu = find_gpu(
        "auto",
        min(spec.config.num_workers or 1, most),
        purpose="embedding",
        timeout_s=spec.config.start_timeout_s,
    )
    return gpu is not None


def _run_passes(
    spec: EmbedSpec, embedder: Embedder, *, here: bool, use_gpu: bool
) -> list[dict[str, Any]]:
    marks, run, receipts = Marks(spec.folder), uuid4().hex, []
    if marks.drop_lost():
        _log.info("embed: the machine was restarted, and may have lost rows: all are made anew")
    if marks.drop_damaged():
        _log.warning("embed: what an earlier run noted is damaged: all rows are made anew")
    exchange = Exchange(spec.folder)
    passes = embedder.passes()
    if not exchange.is_open:
        _drop_marks_without_rows(marks, embedder, passes)
    marks.note_place()
    if not here:
        exchange.keep_only_shared_marks()
    with Progress("embed", sum(each.total for each in passes), "rows") as progress:
        for number, each in enumerate(passes):
            if marks.receipt(each.name) is None:
                todo = [chunk for chunk in each.chunks() if not marks.is_set(each.name, chunk)]
                if len(todo) < len(each.chunks()):
                    kept = len(each.chunks()) - len(todo)
                    _log.info("embed: %s: %d chunks were done before", each.name, kept)
                _resume(progress, passes[:number], each, todo)
                if here:
                    _make_ready(embedder, exchange, each.name)
                    done = _run_here(spec, embedder, each, todo)
                else:
                    embedder.begin(each.name)
                    done = _run(spec, run, each, todo, use_gpu=use_gpu)
                for rows in done:
                    progress.advance(rows, each.name)
                shared.pull(spec.folder, suffix=MARK_SUFFIX)
                marks.finish(each)
            embedder.end(each.name)
            receipt = marks.receipt(each.name)
            assert receipt is not None
            receipts.append(receipt)
        progress.set(progress.total)
    return receipts


def _drop_marks_without_rows(marks: Marks, embedder: Embedder, passes: Sequence[Pass]) -> None:
    """Drop the marks of chunks that are not there as their receipts say.

    Files to be published are always looked at; rows between passes only in what may be a copy.
    Where a pass lacks rows that is done as a whole, so are those gone that it was made from: all
    begins anew then.
    """
    looks_at_rows = marks.may_be_copied
    done = [each.name for each in passes if marks.receipt(each.name) is not None]
    for number, name in enumerate(each.name for each in passes[: len(done) + 1]):
        for chunk, receipt in marks.chunks(name):
            # Of what a pass before the last one that is done has made, files are dropped.
            may_lack_files = number + 1 < len(done)
            if embedder.holds_part(name, *chunk, receipt) and (
                not looks_at_rows
                or embedder.holds(name, *chunk, receipt, may_lack_files=may_lack_files)
            ):
                continue
            _log.warning(
                "embed: %s: rows %d to %d were lost or damaged, and are made again", name, *chunk
            )
            if number < len(done):
                marks.drop_all()
                return
            marks.drop(name, chunk)


def _resume(progress: Progress, before: Sequence[Pass], now: Pass, todo: Sequence[Chunk]) -> None:
    """Say what an earlier run had done, so that the rate counts this run alone."""
    done = sum(each.total for each in before) + now.total
    done -= sum(stop - start for start, stop in todo)
    if done != progress.done:
        progress.resume_at(done)


def _run_here(
    spec: EmbedSpec, embedder: Embedder, each: Pass, todo: Sequence[Chunk]
) -> Iterator[int]:
    """Do chunks in this process; some are written down while the next one is computed.

    Rows between passes are not synced: the disk would take longer than the computing does.
    """
    marks, name = Marks(spec.folder), each.name
    sync = not marks.hold_until_restart()

    def settle(chunk: Chunk, rows: npt.NDArray[np.float32]) -> int:
        marks.set(name, chunk, embedder.settle(name, *chunk, rows, sync=sync))
        return chunk[1] - chunk[0]

    with ThreadPoolExecutor(_SETTLING, thread_name_prefix="settle") as pool:
        settling: deque[Future[int]] = deque()
        for chunk in todo:
            rows = embedder.compute(name, *chunk)
            if len(settling) == _SETTLING:
                yield settling.popleft().result()
            settling.append(pool.submit(settle, chunk, rows))
        while settling:
            yield settling.popleft().result()


def _run(
    spec: EmbedSpec, run: str, each: Pass, todo: Sequence[Chunk], *, use_gpu: bool
) -> Iterator[int]:
    """Do chunks on workers that Ray Data starts, and starts again when they are lost."""
    if not todo:
        return
    num_workers = min(spec.config.num_workers or 1, len(todo))
    cpus = spec.config.cpus_per_worker
    require_room(
        [{"CPU": cpus} | ({"GPU": 1.0} if use_gpu else {})] * num_workers,
        purpose="embedding",
        setting="embed.num_workers",
        timeout_setting="embed.start_timeout_s",
        timeout_s=spec.config.start_timeout_s,
    )
    _quiet_ray_data()
    chunks = ray.data.from_items(
        [{"start": start, "stop": stop} for start, stop in todo], override_num_blocks=len(todo)
    )
    if use_gpu:
        # Ray ends a process after each task that had a GPU; an actor lives for the whole pass.
        done = chunks.map_batches(
            ChunkActor,
            fn_constructor_args=(spec, run, each.name),
            batch_size=1,
            num_cpus=cpus,
            num_gpus=1,
            compute=ray.data.ActorPoolStrategy(size=num_workers),
        )
    else:
        done = chunks.map_batches(
            partial(do_chunks, spec=spec, run=run, name=each.name),
            batch_size=1,
            num_cpus=cpus,
            compute=ray.data.TaskPoolStrategy(size=num_workers),
        )
    for batch in done.iter_batches(batch_size=None):
        for error in filter(None, batch["error"]):
            raise pickle.loads(error)
        yield int(batch["rows"].sum())


def _prints(spec: EmbedSpec, embedder: Embedder) -> npt.NDArray[np.uint64]:
    return print_items(
        item_keys_of(spec.graph / ITEMS_FILE),
        embedder.graph.features_at_inference(),
        embedder.neighborhoods,
        num_neighbors=spec.config.num_neighbors,
    )


def _plan_update(spec: EmbedSpec, embedder: Embedder) -> None:
    """Find what is to be computed, and leave it where every worker finds it."""
    assert spec.previous is not None
    update = plan_update(
        PreviousEmbeddings.open(spec.previous, spec.folder),
        _prints(spec, embedder),
        embedder.neighborhoods.ids,
        num_layers=embedder.encoder.num_layers,
        num_neighbors=spec.config.num_neighbors,
    )
    update.save(spec.folder)
    share = float(np.mean([changed.mean() for changed in update.changed[1:]] or [0.0]))
    _log.info("embed: changes reach %.1f%% of the convolutions", 100 * share)


def _load_update(spec: EmbedSpec) -> Update | None:
    if spec.previous is None:
        return None
    return Update.load(spec.folder, PreviousEmbeddings.open(spec.previous, spec.folder))


def _publish_hidden(spec: EmbedSpec, encoder: LayerwiseEncoder, draft: Draft) -> None:
    exchange = Exchange(spec.folder)
    for number in range(1, encoder.num_layers):
        # A run that was killed after this one was moved has nothing here, and all of it there.
        if encoder.hidden_file(number).exists():
            for file in encoder.files_of(number)[1:]:
                exchange.take(file)
                file.sync()
                exchange.forget(file)
            encoder.hidden_file(number).replace(draft.path / hidden_name(number))


def _count(draft: Draft, embedder: Embedder, receipts: list[dict[str, Any]]) -> None:
    """Fill the manifest's receipt: equal for equal results, however they came about."""
    draft.counts |= {
        "items": embedder.graph.num_items,
        "convolutions": sum(receipt["convolutions"] for receipt in receipts),
        "passes": receipts[: embedder.encoder.num_passes],
    }
    if len(receipts) > embedder.encoder.num_passes:
        draft.counts["contexts"] = receipts[-1]["rows"]


def _quiet_ray_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
