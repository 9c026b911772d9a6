"""A published report, read back."""

import json
from pathlib import Path
from typing import Any

from pinsage.base.addresses import shown
from pinsage.base.errors import ArtifactError, what_failed
from pinsage.base.shared import read_shared


def read_report(directory: Path) -> dict[str, Any]:
    """Read a report, whose `metrics` are those of at least one method.

    Args:
        directory: where it is published.

    Raises:
        ArtifactError: it is damaged or gone; says what to delete.
    """
    try:
        written = read_shared(directory / "report.json")
        content = None if written is None else json.loads(written)
    except OSError as error:
        raise damaged_report(directory, what_failed(error)) from error
    except ValueError as error:
        raise damaged_report(directory, str(error)) from error
    if content is None:
        raise damaged_report(directory, "it is gone")
    metrics = content.get("metrics") if isinstance(content, dict) else None
    of_methods = metrics.values() if isinstance(metrics, dict) else ()
    if not of_methods or not all(isinstance(values, dict) for values in of_methods):
        raise damaged_report(directory, "no `metrics` of methods in it")
    whole: dict[str, Any] = content
    return whole


def damaged_report(directory: Path, reason: str) -> ArtifactError:
    """Make the error for a report that cannot be used: evaluate skips what is published."""
    return ArtifactError(
        f"{shown(directory)}/report.json: cannot be used ({reason}); delete {shown(directory)} "
        "and run evaluate"
    )
