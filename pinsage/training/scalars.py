"""The numbers of a training, written where people look at them: JSON lines, TensorBoard, MLflow."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pinsage.base.errors import ConfigError
from pinsage.base.files import whole_file

LOG = "train-log.jsonl"
"""The file of JSON lines, one every ten steps and one a validation."""

_BY_THE_CLOCK = ("pairs_per_s", "wait_share")
"""What no two runs agree on."""

Tracker = Literal["tensorboard", "mlflow"]

_PACKAGES: dict[Tracker, str] = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}


@runtime_checkable
class Scalars(Protocol):
    """Somewhere to write numbers to."""

    def write(self, step: int, values: Mapping[str, int | float]) -> None:
        """Write the numbers of one step."""
        ...

    def close(self) -> None:
        """Write what is held back."""
        ...


class JsonLines:
    """One JSON object a line, `step` first; a run that goes on drops the lines it repeats."""

    def __init__(self, path: Path, *, first_step: int) -> None:
        """Open the file.

        Args:
            path: the file; made if it is not there.
            first_step: lines of later steps are from a run that was killed, and go.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_lines(path) if line["step"] <= first_step]
        with whole_file(path) as temporary:
            temporary.write_text("".join(map(_line, kept)), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, int | float]) -> None:
        """Append one line; it is on the disk when this returns, so before a checkpoint of it."""
        self._file.write(_line({"step": step, **values}))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Event files that `tensorboard --logdir` shows."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        """Open a new event file; TensorBoard hides what it repeats of an older one."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def write(self, step: int, values: Mapping[str, int | float]) -> None:
        """Write one point a curve."""
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def close(self) -> None:
        """Flush."""
        self._writer.close()


class Mlflow:
    """Metrics of one MLflow run, at the server that MLflow's own settings name."""

    def __init__(self, name: str) -> None:
        """Go on with the run of this name, or start it."""
        import mlflow

        self._mlflow = mlflow
        earlier = mlflow.search_runs(
            filter_string=f"attributes.run_name = '{name}'", output_format="list", max_results=1
        )
        self._run = mlflow.start_run(
            run_id=earlier[0].info.run_id if earlier else None, run_name=name
        )

    def write(self, step: int, values: Mapping[str, int | float]) -> None:
        """Log one step's metrics."""
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


def check_trackers(trackers: Sequence[Tracker]) -> None:
    """Stop before training if a package is not there.

    Raises:
        ConfigError: which one, and how to get it.
    """
    for tracker in trackers:
        package = _PACKAGES[tracker]
        if find_spec(package) is None:
            raise ConfigError(
                f"train.trackers names {tracker}, but the package {package} is not installed; "
                f"`pip install {package}`, or leave it out"
            )


def open_scalars(
    trackers: Sequence[Tracker], *, log: Path, tensorboard: Path, name: str, first_step: int
) -> list[Scalars]:
    """Open the training log, and the trackers asked for.

    Args:
        trackers: beside the log.
        log: the file of JSON lines.
        tensorboard: folder of event files.
        name: what MLflow calls the run.
        first_step: steps done before.
    """
    opened: list[Scalars] = [JsonLines(log, first_step=first_step)]
    if "tensorboard" in trackers:
        opened.append(TensorBoard(tensorboard, first_step=first_step))
    if "mlflow" in trackers:
        opened.append(Mlflow(name))
    return opened


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a training log up to the first line that was cut or damaged, if one was."""
    found: list[dict[str, Any]] = []
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            break
        if not isinstance(values, dict) or not isinstance(values.get("step"), int):
            break
        found.append(values)
    return found


def write_repeatable(log: Path, target: Path, *, last_step: int) -> None:
    """Copy a training log without what no two runs agree on: a resumed one equals an unbroken one.

    Args:
        log: the file that training wrote.
        target: the file to write.
        last_step: later lines are left out.
    """
    lines = [line for line in read_lines(log) if line["step"] <= last_step]
    kept = [{key: line[key] for key in line if key not in _BY_THE_CLOCK} for line in lines]
    target.write_text("".join(map(_line, kept)), encoding="utf-8")


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values) + "\n"
