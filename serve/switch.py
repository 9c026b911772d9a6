"""`python -m serve.switch`: say which published generation the servers of a run are to serve."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pinsage.base.addresses import shown
from pinsage.base.config import add_recipe_flags, load_config
from pinsage.base.errors import ArtifactError, ConfigError
from pinsage.base.interrupts import hear_ctrl_c
from pinsage.base.logs import set_up_logging
from pinsage.cluster.run_config import RunConfig
from serve.generation import Generation
from serve.generations import (
    UnknownGenerationError,
    decide,
    find,
    listed,
    newest_digest,
    wanted_digest,
)
from serve.pointer import Pointer, deciding, read_pointer

_METRIC = "hit_rate@100"


def main(arguments: Sequence[str] | None = None) -> int:
    """Show or decide; returns the exit status."""
    hear_ctrl_c()
    parser = argparse.ArgumentParser(prog="python -m serve.switch", description=__doc__)
    add_recipe_flags(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--to", metavar="DIGEST", help="serve this generation")
    what.add_argument("--previous", action="store_true", help="go back to the one served before")
    what.add_argument("--newest", action="store_true", help="serve the one published last")
    what.add_argument("--list", action="store_true", help="show what is published (the default)")
    options = parser.parse_args(arguments)
    set_up_logging()
    decides = bool(options.to or options.previous or options.newest)
    try:
        output = load_config(RunConfig, options.config, options.overrides).output.absolute()
        if decides:
            digest = options.to or _named(output, previous=options.previous)
            told = switch(output, digest)
        else:
            told = table(output)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (ArtifactError, UnknownGenerationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        failed = "the decision can't be written down" if decides else "the list can't be read"
        print(f"error: {failed}: {error}", file=sys.stderr)
        return 1
    try:
        print(told, flush=True)
    except BrokenPipeError:
        # Whoever does not read it to its end has decided all the same.
        pass
    except OSError as error:
        print(f"done, but it can't be told: {error}", file=sys.stderr)
    return 0


def switch(output: Path, digest: str) -> str:
    """Decide on a generation, after opening it once; tells what was done.

    Args:
        output: the run's folder.
        digest: names the generation.

    Raises:
        UnknownGenerationError: there is none of that name.
        ArtifactError: it cannot be opened; nothing has changed.
        OSError: the folder can't be written.
    """
    opened = Generation.open(find(output, digest).path)
    with deciding(output):
        before = _decided(output)
        served = before.generation if before else newest_digest(output)
        if before is not None and served == digest:
            return f"generation {digest} was decided on already, {before.at}"
        previous = served if served != digest and _is_whole(output, served) else None
        decide(output, digest, previous=previous)
    back = "; `--previous` goes back" if previous else ""
    return (
        f"generation {digest} is to be served ({opened.counts['items']:,} items), instead of "
        f"{previous or 'any other'}{back}\nrunning servers of {shown(output)} open it now and "
        "follow; `GET /v1/generations` says which one answers"
    )


def table(output: Path) -> str:
    """List what is published, and what is to be served."""
    found = listed(output)
    if not found:
        return f"{shown(output)}: nothing is published; run `python -m ray_jobs.pipeline` first"
    pointer = read_pointer(output)
    wanted = wanted_digest(pointer, newest_digest(output), first=None, follow="pointer")
    lines = [f"{'generation':12}  {'published (UTC)':19}  {'':8}  {'items':>11}  {_METRIC}"]
    for one in found:
        mark = ("newest" if pointer is None else "served") if one.digest == wanted else ""
        if pointer is not None and one.digest == pointer.previous:
            mark = "previous"
        found_at = _hit_rate(one.quality.get("pinsage", {}))
        said = f"{one.counts['items']:>11,}  {found_at}" if one.counts else ""
        if one.damage:
            said = "damaged: " + one.damage.replace(f"{output}/", "")
        lines.append(f"{one.digest}  {one.at:%Y-%m-%d %H:%M:%S}  {mark:8}  {said}".rstrip())
    how = (
        f"decided {pointer.at}"
        if pointer
        else ("the newest one, as nothing was decided; a running server goes on with its own")
    )
    return "\n".join([*lines, f"to be served: {wanted} ({how})"])


def _hit_rate(quality: Mapping[str, float]) -> str:
    """Write a hit-rate: the usual one, or else that of the largest K there is."""
    if _METRIC in quality:
        return f"{quality[_METRIC]:.3f}"
    ks = [int(name.removeprefix("hit_rate@")) for name in quality if name.startswith("hit_rate@")]
    return f"{quality[f'hit_rate@{max(ks)}']:.3f} (@{max(ks)})" if ks else "-"


def _is_whole(output: Path, digest: str | None) -> bool:
    return any(one.digest == digest and one.damage is None for one in listed(output))


def _named(output: Path, *, previous: bool) -> str:
    pointer = _decided(output)
    digest = (pointer.previous if pointer else None) if previous else newest_digest(output)
    if digest is None:
        raise ArtifactError(
            f"{shown(output)}: what was served before is not written down; name it with `--to`: "
            "`--list` shows what is published"
            if previous
            else f"{shown(output)}: nothing is published; run `python -m ray_jobs.pipeline` first"
        )
    return digest


def _decided(output: Path) -> Pointer | None:
    """Read the last decision; a damaged one is none, and is told, since it can be mended here."""
    try:
        return read_pointer(output)
    except ArtifactError as error:
        print(f"warning: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main())
