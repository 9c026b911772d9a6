"""What `ray_jobs.plan` foresees, against what the stages really take, at three sizes.

Run: `python -m benchmarks.plan [--json] [--items 50e3 200e3 600e3]`.

Made-up graphs with ten edges an item go through every stage, each a process of its own. Memory is
the most that its processes, Ray's included, held for themselves and in the object store together;
disk is what was published. Last, an ingest of wide features runs in a control group with less
memory than is foreseen for it, and must be killed; and once more with enough, and must not. That
part wants the right to make control groups. Nothing here depends on how busy the machine is.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks._held import watch
from benchmarks._timing import parser, report
from pinsage.base.config import load_config
from pinsage.cluster.plan import plan
from pinsage.cluster.plan_facts import MIB, GraphSize, Need
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig

_WIDTH, _PAIRS, _EDGES_PER_ITEM, _CONTEXTS_PER_ITEM = 64, 60_000, 10, 0.3
_SETTINGS = (
    "walk.num_walks=100",
    "walk.num_neighbors=20",
    "hard_negatives={first_rank: 50, last_rank: 200, num_walks: 200, num_candidates: 64}",
    "model={num_layers: 2, projected_width: 256, embedding_width: 128}",
    "train.minibatch={size: 1024, shared_negatives: 500, max_hard_negatives: 2, num_neighbors: 10}",
    "train.schedule.epochs=1",
    "index.exact_limit=10000000",
    "evaluate={max_pairs: 500, baselines: [popularity]}",
)
_TABLES = "ray_jobs/recipes/graphs/power_law.yaml"
_LARGE_WIDTH = 1_024
"""Features that make an ingest need a few times what its process brings along."""

_SHARES = (0.7, 1.3)


def main() -> None:
    """Measure every stage at every size, then the memory that will not do."""
    flags = parser(__doc__)
    flags.add_argument("--items", type=float, nargs="+", default=[50e3, 200e3, 600e3])
    flags.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "pinsage-benchmarks" / "plan"
    )
    asked = flags.parse_args()
    rows: list[Sequence[object]] = [
        ("items", "stage", "memory, MiB", "foreseen", "off by", "disk, MiB", "foreseen", "off by")
    ]
    worst = 0.0
    for items in asked.items:
        for row, off in _measure(asked.folder / f"{items:.0f}", int(items)):
            rows.append(row)
            worst = max(worst, off)
    little, enough = _limited(asked.folder / "limited")
    figures = {
        "worst_off": round(worst, 3),
        "out_of_memory_as_foreseen": little == -9,
        "enough_is_enough": enough == 0,
    }
    report("Foreseen and measured", rows, figures, as_json=asked.json)
    print(
        f"with {_SHARES[0]} of the memory foreseen, ingest ends with {little} (-9: killed by the "
        f"kernel); with {_SHARES[1]} of it, {enough}"
    )


def _measure(folder: Path, items: int) -> list[tuple[Sequence[object], float]]:
    config = _write_tables(folder, items, _WIDTH)
    size = GraphSize(
        items, int(items * _CONTEXTS_PER_ITEM), items * _EDGES_PER_ITEM, _PAIRS, _WIDTH
    )
    measured = []
    for need in plan(config, size, cores=2):
        held = watch([f"ray_jobs.{need.stage}", *_flags(folder)], log=folder / "log")
        if held.returncode:
            raise SystemExit(f"{need.stage} failed: {held.errors}")
        measured.append(_compared(items, need, held.own_bytes + held.shared_bytes, Run(config)))
    shutil.rmtree(folder)
    return measured


def _compared(items: int, need: Need, held: float, run: Run) -> tuple[Sequence[object], float]:
    places = dict(
        zip(("ingest", "walk", "train", "embed", "index", "evaluate"), run.stages, strict=True)
    )
    manifest = places[need.stage].open().manifest
    disk = sum(entry.size_bytes for entry in manifest.files.values())
    foreseen = need.own_bytes + need.shared_bytes
    memory_off, disk_off = foreseen / held - 1, need.disk_bytes / disk - 1
    row = (
        f"{items:,}",
        need.stage,
        f"{held / MIB:.0f}",
        f"{foreseen / MIB:.0f}",
        f"{memory_off:+.0%}",
        f"{disk / MIB:.1f}",
        f"{need.disk_bytes / MIB:.1f}",
        f"{disk_off:+.0%}",
    )
    return row, max(abs(memory_off), abs(disk_off))


def _limited(folder: Path) -> list[int]:
    """Exit codes of an ingest with too little memory, and of one with enough."""
    config = _write_tables(folder, 200_000, _LARGE_WIDTH)
    size = GraphSize(200_000, 60_000, 2_000_000, _PAIRS, _LARGE_WIDTH)
    foreseen = plan(config, size, cores=2)[0].own_bytes
    codes = [_ingest_within(folder, int(share * foreseen)) for share in _SHARES]
    shutil.rmtree(folder)
    return codes


def _ingest_within(folder: Path, num_bytes: int) -> int:
    """Ingest in a control group of its own, where the kernel kills what takes more memory."""
    old = Path("/sys/fs/cgroup/memory")
    group = (old if old.is_dir() else old.parent) / f"pinsage-plan-{os.getpid()}"
    group.mkdir()
    try:
        limit = "memory.limit_in_bytes" if old.is_dir() else "memory.max"
        (group / limit).write_text(str(num_bytes))
        command = [sys.executable, "-m", "ray_jobs.ingest", *_flags(folder)]
        members = group / "cgroup.procs"
        return subprocess.run(
            command,
            preexec_fn=lambda: members.write_text(str(os.getpid())) and None,
            capture_output=True,
            check=False,
        ).returncode
    finally:
        group.rmdir()


def _write_tables(folder: Path, items: int, width: int) -> RunConfig:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    graph = (
        f"graph={{num_items: {items}, num_contexts: {int(items * _CONTEXTS_PER_ITEM)}, "
        f"num_edges: {items * _EDGES_PER_ITEM}, num_communities: {max(items // 100, 1)}}}"
    )
    settings = (f"output={folder}", graph, f"num_pairs={_PAIRS}", f"feature_width={width}")
    flags = [word for setting in settings for word in ("--set", setting)]
    made = watch(["ray_jobs.synthesize", "--config", _TABLES, *flags], log=folder / "log")
    if made.returncode:
        raise SystemExit(made.errors)
    return load_config(RunConfig, folder / "recipe.yaml", _SETTINGS)


def _flags(folder: Path) -> list[str]:
    settings = [word for setting in _SETTINGS for word in ("--set", setting)]
    return ["--config", str(folder / "recipe.yaml"), *settings]


if __name__ == "__main__":
    main()
