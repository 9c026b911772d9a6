"""From what the workers say of themselves to what is stuck."""

from collections.abc import Sequence

from pinsage.cluster.board import Beat

STEP = "step"
WAITING = "waiting for a minibatch"
SAVING = "waiting for a checkpoint to be written"
VALIDATING = "validation"
STARTING = "starting"

_SILENT_S = 60.0
"""A worker that says nothing for so long is no more."""


def stuck(beats: Sequence[Beat], *, after_s: float) -> str | None:
    """Say which worker is stuck where, if no step has ended for too long.

    A worker inside a step whose neighbor is elsewhere waits for that one's gradients, so the
    neighbor is the one to look at.

    Args:
        beats: the last one of each rank.
        after_s: how long is too long.
    """
    if not beats or min(beat.since_step_s for beat in beats) < after_s:
        return None
    elsewhere = [beat for beat in beats if beat.stage != STEP or beat.silent_s > _SILENT_S]
    lines = [
        f"worker {beat.rank}: {_doing(beat, elsewhere)}, for {beat.for_s:.0f} s, "
        f"after step {beat.step}"
        for beat in sorted(beats, key=lambda beat: beat.rank)
    ]
    return "; ".join(lines)


def _doing(beat: Beat, elsewhere: Sequence[Beat]) -> str:
    if beat.silent_s > _SILENT_S:
        return "lost, and not started again (see `ray status` for what the cluster lacks)"
    if beat.stage != STEP:
        return beat.stage
    if elsewhere:
        others = ", ".join(str(other.rank) for other in elsewhere)
        return f"waiting for the gradients of worker {others}"
    return "computing a step, or exchanging gradients"
