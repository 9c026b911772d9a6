"""What every job has in common: three flags, one JSON line, errors without a traceback."""

import argparse
import json
from collections.abc import Callable

from pinsage.base.addresses import shown
from pinsage.base.config import ConfigT, add_recipe_flags, dump_config, load_config
from pinsage.base.logs import set_up_logging
from pinsage.cluster.drivers import JOBS, StageResult
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.session import require_lasting, stop_on_signals
from pinsage.cluster.worker_logs import set_up_logs
from ray_jobs._exit import exit_code


def run_stage(stage: str) -> int:
    """Run one stage, and print what it published as one JSON line."""

    def work(run: Run) -> None:
        print(json.dumps(_as_json(JOBS[stage](run))))

    return run_job(work, description=JOBS[stage].__doc__ or stage)


def run_job(work: Callable[[Run], None], *, description: str) -> int:
    """Read the flags and a recipe, do the work, and turn its outcome into an exit code.

    Returns:
        As `run_with_config`.
    """

    def start(config: RunConfig) -> None:
        require_lasting(config.output)
        set_up_logs(config.logs)
        run = Run(config)
        run.save_config()
        work(run)

    return run_with_config(RunConfig, start, description=description)


def run_with_config(
    kind: type[ConfigT], work: Callable[[ConfigT], None], *, description: str
) -> int:
    """Read the flags and settings of some kind, do the work, and turn its outcome into a code.

    Returns:
        0, or 1 after an error that the user can mend, or 2 after one in the configuration.
    """
    arguments = _parse(description)
    set_up_logging()
    stop_on_signals()

    def start() -> int:
        config = load_config(kind, arguments.config, arguments.overrides)
        if arguments.print_config:
            print(dump_config(config), end="")
        else:
            work(config)
        return 0

    return exit_code(start)


def _parse(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    add_recipe_flags(parser)
    parser.add_argument(
        "--print-config", action="store_true", help="print every setting as it will be used"
    )
    return parser.parse_args()


def _as_json(result: StageResult) -> dict[str, object]:
    return {
        "stage": result.stage,
        "directory": shown(result.directory),
        "was_published": result.was_published,
        "seconds": round(result.seconds, 1),
        "counts": result.counts,
    }
