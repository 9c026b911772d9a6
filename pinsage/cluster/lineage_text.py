"""An output folder's lineage as tables that a person reads, and as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from pinsage.base.addresses import shown
from pinsage.base.text_table import text_table
from pinsage.cluster.lineage import Output, Piece, Unfinished

_TOLD = ("items", "contexts", "edges", "mean_neighbors", "pairs", "steps", "kind", "recall@10")
"""Counts that say most, in this order; `--show` and `--json` give all."""

_MAKERS = {
    "graph": "ingest",
    "neighborhoods": "walk",
    "model": "train",
    "embeddings": "embed",
    "index": "index",
    "report": "evaluate",
}


def status_text(output: Output) -> str:
    """Tell what is published, what is under way, and what the served generation came from."""
    parts = [_summary(output)]
    if output.pieces:
        parts.append(_table([_row(one) for one in output.pieces]))
    differing = _differing(output)
    if differing:
        parts.append("\n".join(["What tells apart the pieces of one stage:", *differing]))
    if output.unfinished or output.checkpoints:
        parts.append("\n".join(["Not published yet:", *_under_way(output)]))
    roots = _ends([one for one in output.pieces if one.served]) or list(output.pieces[-1:])
    if roots:
        what = "what is marked" if output.decided else "the newest generation"
        what = what if roots[0].served else "the last of these"
        parts.append("\n".join([f"Where {what} came from:", *_tree(output, roots)]))
    return "\n\n".join(parts)


def piece_text(output: Output, piece: Piece) -> str:
    """Tell all of one published directory: counts, settings, and where it came from."""
    head = [
        f"{piece.stage}/{piece.fingerprint}",
        f"  published  {_when(piece.published_s)}",
        f"  files      {piece.num_files} in {size_text(piece.size_bytes)}, {shown(piece.path)}",
        f"  digest     {piece.digest}",
    ]
    if piece.problem:
        head.append(f"  problem    {piece.problem}; {_cure(piece)}")
    settings = {name: value for name, value in piece.config.items() if name != "inputs"}
    tell = ("counts", piece.counts), ("settings", settings)
    texts = [yaml.safe_dump({name: part}, sort_keys=False).rstrip() for name, part in tell]
    return "\n\n".join(["\n".join(head), *texts, "\n".join(["from", *_tree(output, [piece])])])


def status_json(output: Output) -> str:
    """Everything as one JSON document; times are in seconds since 1970, sizes in bytes."""

    def plain(value: object) -> object:
        if isinstance(value, Path):
            return shown(value)
        return value.value if isinstance(value, Enum) else str(value)

    return json.dumps(asdict(output), default=plain, indent=2)


def size_text(size_bytes: float) -> str:
    """Write a size with three digits.

    >>> size_text(999), size_text(1_536), size_text(45 * 2**20)
    ('999 B', '1.5 KiB', '45.0 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size_bytes < 1024 or unit == "TiB":
            break
        size_bytes /= 1024
    return f"{size_bytes:,.0f} {unit}" if unit == "B" else f"{size_bytes:,.1f} {unit}"


def _summary(output: Output) -> str:
    total = sum(one.size_bytes for one in output.pieces)
    lines = [f"{shown(output.path)}: {len(output.pieces)} published, {size_text(total)}"]
    if output.generation_s is not None:
        lines.append(f"* in the newest generation (generation.json), {_when(output.generation_s)}")
    elif output.pieces:
        lines.append("no generation.json yet: `python -m ray_jobs.pipeline` writes it at its end")
    else:
        lines.append("nothing is published here yet; `python -m ray_jobs.pipeline` fills it")
    if output.decided:
        told = ", and before it ".join(output.decided)
        lines.append(f"* in a generation of serving.json too: served is {told}")
    lines += [
        f"! generation {digest}: serving.json names it, but generations/{digest}.json is gone, so "
        "its directories are not marked"
        for digest in output.lost
    ]
    lines += [
        f"! {one.stage}/{one.fingerprint}: {one.problem}; {_cure(one)}"
        for one in output.pieces
        if one.problem
    ]
    return "\n".join(lines)


def _cure(piece: Piece) -> str:
    job = _MAKERS.get(piece.stage, "pipeline")
    return f"delete that directory and run `python -m ray_jobs.{job}` again"


def _row(piece: Piece) -> tuple[str, ...]:
    mark = "!" if piece.problem else "*" if piece.served else " "
    told = [_count(name, piece.counts[name]) for name in _TOLD if name in piece.counts]
    return (
        f"{mark} {piece.stage}",
        piece.fingerprint,
        _when(piece.published_s),
        size_text(piece.size_bytes).rjust(9),
        ", ".join(told),
    )


def _count(name: str, value: object) -> str:
    if isinstance(value, dict):
        return f"{sum(value.values()):,} {name}"
    if name.startswith("recall@"):
        return f"{name} {value}"
    words = name.replace("_", " ")
    return f"{value:,} {words}" if isinstance(value, int | float) else f"{words} {value}"


def _differing(output: Output) -> list[str]:
    """Where a stage published more than once: the settings or parents in which those differ."""
    lines = []
    for stage in dict.fromkeys(one.stage for one in output.pieces):
        siblings = [one for one in output.pieces if one.stage == stage]
        flat = [dict(_flat(one.config)) | _parents(one) for one in siblings]
        names = sorted({name for one in flat for name in one})
        telling = [name for name in names if len({one.get(name, "absent") for one in flat}) > 1]
        for piece, settings in zip(siblings, flat, strict=True):
            told = [f"{name}={settings[name]}" for name in telling if name in settings]
            if told:
                lines.append(f"  {stage}/{piece.fingerprint}: {', '.join(told)}")
    return lines


def _parents(piece: Piece) -> dict[str, str]:
    return {f"from {stage}": print_ or "gone" for stage, print_ in piece.parents.items()}


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their whole names; input files are told elsewhere."""
    for name, value in tree.items():
        if isinstance(value, dict) and name != "inputs":
            yield from _flat(value, f"{prefix}{name}.")
        elif name != "inputs":
            yield f"{prefix}{name}", json.dumps(value)


def _under_way(output: Output) -> Iterator[str]:
    for one in output.unfinished:
        yield f"  {one.stage}/{one.fingerprint}: {_progress(one)}"
    for model, count in output.checkpoints.items():
        yield f"  model/{model}: {count} checkpoints; `python -m ray_jobs.train` goes on from there"


def _progress(one: Unfinished) -> str:
    size = size_text(one.size_bytes)
    if one.is_running:
        return f"being written, {size} so far, last at {_when(one.written_s)}"
    return f"left by a run that stopped, {size}, {_when(one.written_s)}; the same command goes on"


def _ends(pieces: list[Piece]) -> list[Piece]:
    """Those that no other of them was made from."""
    used = {(stage, print_) for one in pieces for stage, print_ in one.parents.items()}
    return [one for one in pieces if (one.stage, one.fingerprint) not in used]


def _tree(output: Output, pieces: list[Piece]) -> list[str]:
    """Pieces and, indented below, all they came from; one told before is not told again."""
    lines: list[str] = []
    told: set[str] = set()

    def tell(one: Piece, depth: int) -> None:
        indent = "  " * (depth + 1)
        again = one.path.as_posix() in told
        lines.append(f"{indent}{one.stage}/{one.fingerprint}{' (see above)' if again else ''}")
        if again:
            return
        told.add(one.path.as_posix())
        for stage, fingerprint in one.parents.items():
            parent = output.find(stage, fingerprint) if fingerprint else None
            if parent is None:
                lines.append(f"{indent}  {stage}: no longer in this folder")
            else:
                tell(parent, depth + 1)
        for file in one.inputs:
            digest = f", sha256 {file.sha256[:12]}" if file.sha256 else ""
            lines.append(
                f"{indent}  {file.path} ({size_text(file.size_bytes)}{digest}): {file.state.value}"
            )

    for piece in pieces:
        tell(piece, 0)
    return lines


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _table(pieces: list[tuple[str, ...]]) -> str:
    heading = ("stage", "fingerprint", "published", "size", "content")
    return text_table([heading, *pieces], left=len(heading))
