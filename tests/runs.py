"""The smoke recipe, published into a folder of the test's own."""

import os
import subprocess
import sys
from pathlib import Path

from pinsage.base.config import load_config
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig

ROOT = Path(__file__).parents[1]
SMOKE = ROOT / "ray_jobs" / "recipes" / "smoke.yaml"


def smoke_run(output: Path, *settings: str) -> Run:
    """The smoke recipe with some settings changed."""
    return Run(load_config(RunConfig, SMOKE, [f"output={output}", *settings]))


def start_job(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start `python -m <module>` at the root of the repository, in a session of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes_of_session(session: int) -> list[str]:
    """Command lines of the processes alive in a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(command)
    return found
