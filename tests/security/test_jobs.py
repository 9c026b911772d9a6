"""Jobs as a user submits them, to a head that wants the token: followed, refused, stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from pinsage.base.errors import ConfigError
from pinsage.cluster import drivers
from pinsage.cluster.run import Run
from pinsage.cluster.session import require_lasting
from pinsage.training.scalars import LOG
from tests.docs.test_pages import blocks
from tests.runs import ROOT, smoke_run
from tests.security.heads import Head
from tests.waiting import wait_until

pytestmark = pytest.mark.ray

STEPS = "train.schedule.epochs=60"
SELDOM = "train.checkpoint_steps=1000000"
PACKAGE_BYTES = 20 * 2**20
SHARED_ACTOR = "_AutoscalingCoordinatorActor"
"""Ray Train makes one for all jobs of a cluster, within the first job, and keeps it."""


class Jobs:
    """Training jobs on a head, from the code as it lies here."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.client = JobSubmissionClient(head.dashboard, headers=head.pass_)

    def train(self, output: Path) -> str:
        flags = f"--set output={output} --set {STEPS} --set {SELDOM}"
        return str(
            self.client.submit_job(
                entrypoint=f"python -m ray_jobs.train --config ray_jobs/recipes/smoke.yaml {flags}",
                runtime_env={"working_dir": f"local://{ROOT}"},
            )
        )

    def end_of(self, job: str) -> tuple[JobStatus, int | None, str]:
        """Wait for its end; gives what it was, its exit code, and its log."""
        wait_until(lambda: self.client.get_job_status(job).is_terminal(), "the end of the job")
        info = self.client.get_job_info(job)
        return info.status, info.driver_exit_code, self.client.get_job_logs(job)

    def freeze(self, training: dict[str, Run]) -> list[int]:
        """Halt each job's only training worker in the middle; gives their processes."""
        frozen: dict[str, int] = {}

        def halt() -> bool:
            for job in training.keys() - frozen.keys():
                log = training[job].checkpoints / LOG
                if log.exists() and log.read_text():
                    mine = self.client.get_job_info(job).job_id
                    (worker,) = self.listed(
                        "actors", class_name="RayTrainWorker", state="ALIVE", job_id=mine
                    )
                    os.kill(worker["pid"], signal.SIGSTOP)
                    frozen[job] = worker["pid"]
            return len(frozen) == len(training)

        wait_until(halt, "the tenth step of each job")
        return [frozen[job] for job in training]

    def left_by(self, *jobs: str) -> list[dict[str, Any]]:
        """List the actors and placement groups of some jobs that are not gone."""
        ids = {self.client.get_job_info(job).job_id for job in jobs}
        actors = [
            row
            for row in self.listed("actors")
            if row["state"] != "DEAD" and row["class_name"] != SHARED_ACTOR
        ]
        groups = [row for row in self.listed("placement_groups") if row["state"] != "REMOVED"]
        return [row for row in actors if row["job_id"] in ids] + [
            row for row in groups if row["creator_job_id"] in ids
        ]

    def listed(self, kind: str, **wanted: str | None) -> list[dict[str, Any]]:
        url = f"{self.head.dashboard}/api/v0/{kind}?limit=1000&detail=true"
        request = urllib.request.Request(url, headers=self.head.pass_)
        with urllib.request.urlopen(request, timeout=60) as answer:
            rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def wait_until_nothing_is_left(jobs: Jobs, *ended: str) -> None:
    deadline = time.monotonic() + 60
    while left := jobs.left_by(*ended):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.fixture(scope="module")
def jobs(running: Head) -> Jobs:
    return Jobs(running)


@pytest.fixture(scope="module")
def told(running: Head, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A graph that the guide's own example had a job publish, and what the example printed."""
    shared = tmp_path_factory.mktemp("shared")
    done = subprocess.run(
        [sys.executable, "-c", *blocks("running.md", "python")],
        cwd=ROOT, env=running.environment | {"SHARED": str(shared)},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return shared / "smoke", done.stdout


@pytest.fixture(scope="module")
def walked(told: tuple[Path, str], local_ray: None) -> Run:
    run = smoke_run(told[0])
    drivers.walk(run)
    return run


def copy_of(run: Run, folder: Path) -> Run:
    """A run into another folder, which shares the graph and the neighborhoods."""
    folder.mkdir()
    for stage in (run.graph, run.neighborhoods):
        (folder / stage.name).symlink_to(stage.directory.parent, target_is_directory=True)
    return smoke_run(folder, STEPS, SELDOM)


def test_what_travels_is_small_and_what_comes_back_is_the_log(
    running: Head, told: tuple[Path, str]
) -> None:
    output, printed = told
    (line,) = (line for line in printed.splitlines() if line.startswith("{"))
    assert json.loads(line)["directory"] == str(smoke_run(output).graph.directory)
    (package,) = running.folder.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    assert size < PACKAGE_BYTES
    left_out = {".git", ".venv", "runs", "tests", "docs"}
    assert not left_out & {path.name for path in package.iterdir()}
    for recipe in ("smoke.yaml", "cluster.yaml"):
        text = (package / "ray_jobs" / "recipes" / recipe).read_text()
        for table in re.findall(r"data/[\w/]+\.parquet", text):
            assert (package / table).is_file(), table


def test_without_the_token_there_is_no_job(running: Head) -> None:
    with pytest.raises(AuthenticationError):
        JobSubmissionClient(running.dashboard)


def test_an_output_that_ray_would_delete_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    require_lasting(Path("runs/smoke"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    require_lasting(Path("/shared/runs"))
    for path in (Path("runs/smoke"), tmp_path / "runs"):
        with pytest.raises(ConfigError, match="deletes after the job; give a folder"):
            require_lasting(path)


def submitted(head: Head, *flags: str) -> subprocess.CompletedProcess[str]:
    """What the command line says of a training job, when it is over."""
    return subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", ".", "--",
         "python", "-m", "ray_jobs.train", "--config", "ray_jobs/recipes/smoke.yaml", *flags],
        cwd=ROOT, env=head.environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_a_stopped_job_saves_and_goes_on_and_another_beside_it_is_not_disturbed(
    jobs: Jobs, walked: Run, tmp_path: Path
) -> None:
    stopped, beside = (copy_of(walked, tmp_path / name) for name in ("stopped", "beside"))
    first, other = jobs.train(stopped.output), jobs.train(beside.output)
    worker, frozen = jobs.freeze({first: stopped, other: beside})

    jobs.client.stop_job(first)
    wait_until(lambda: "stopping" in jobs.client.get_job_logs(first), "the word that it stops")
    os.kill(worker, signal.SIGCONT)
    status, _, log = jobs.end_of(first)
    assert status == JobStatus.STOPPED
    assert "saved and left" in log
    (checkpoint,) = stopped.checkpoints.glob("step-*/manifest.json")
    assert int(checkpoint.parent.name.removeprefix("step-")) >= 10
    wait_until_nothing_is_left(jobs, first)

    again = jobs.train(stopped.output)
    refused = submitted(jobs.head, "--set", f"output={beside.output}", "--set", STEPS)
    assert refused.returncode == 1
    told = [line for line in refused.stdout.splitlines() if line.strip()]
    assert "another process is writing it" in told[-1], refused.stdout
    os.kill(frozen, signal.SIGCONT)
    for job in (other, again):
        status, code, log = jobs.end_of(job)
        assert (status, code) == (JobStatus.SUCCEEDED, 0), log
    files = [run.model.open().manifest.files for run in (stopped, beside)]
    assert files[0] == files[1]
    wait_until_nothing_is_left(jobs, other, again)
