"""What `python -m ray_jobs.doctor` makes of a machine and a cluster."""

import errno
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.state import list_actors

from pinsage.cluster.doctor import (
    OUTPUT_CURE,
    Finding,
    Level,
    Wanted,
    exit_code_of,
    findings_text,
    machine_findings,
    output_findings,
)
from pinsage.cluster.doctor_cluster import (
    actors_finding,
    cluster_findings,
    node_finding,
    wanted_by,
)
from pinsage.cluster.doctor_facts import (
    Disk,
    MachineFacts,
    NodeAnswer,
    Package,
    disk_of,
    machine_facts,
    open_doors,
)
from tests.runs import SMOKE, smoke_run, start_job

GIB = 2**30
DISK = Disk("/data", 100 * GIB, 50 * GIB, is_writable=True)
GOOD = MachineFacts(
    name="here",
    python=Package("python", ">=3.11", "3.12.1", fits=True),
    packages=(
        Package("ray", ">=2.60", "2.60.0", fits=True),
        Package("numba", ">=0.61", "0.68.0", fits=True),
    ),
    faiss=("faiss-cpu",),
    architecture="x86_64",
    cpu_flags=frozenset({"avx2"}),
    cpus=8,
    memory_bytes=32 * GIB,
    free_memory_bytes=16 * GIB,
    huge_pages="madvise",
    glibc="2.36",
    open_files=65_536,
    shared_memory=DISK,
    temporary=DISK,
    gpus=(),
    torch_cuda="",
    torch_sees_gpu=False,
    token_mode="token",
    token_file_mode=0o600,
    open_doors={},
)
WANTED = Wanted(
    object_store_bytes=GIB,
    output=DISK,
    locks=True,
    listens_on=("127.0.0.1", 8000),
    port_is_free=True,
    trains_on_gpu=False,
)
FULL = replace(DISK, free_bytes=2 * GIB)
READ_ONLY = replace(DISK, is_writable=False)


def named(findings: list[Finding], check: str) -> Finding:
    (found,) = [one for one in findings if one.check == check]
    return found


def test_a_good_machine_has_nothing_to_look_at() -> None:
    findings = machine_findings(GOOD, WANTED)
    assert {one.level for one in findings} == {Level.OK}
    assert not any(one.cure for one in findings)
    assert exit_code_of(findings) == 0


@pytest.mark.parametrize(
    ("check", "level", "bad"),
    [
        ("python", "fail", {"python": Package("python", ">=3.11", "3.9.2", fits=False)}),
        ("numba", "fail", {"packages": (Package("numba", ">=0.61", None, fits=False),)}),
        ("faiss", "fail", {"faiss": ("faiss-cpu", "faiss-gpu")}),
        ("faiss", "warn", {"faiss": ()}),
        ("faiss", "warn", {"gpus": ("H100",), "torch_cuda": "13.0", "torch_sees_gpu": True}),
        ("cores", "warn", {"cpus": 1}),
        ("processor", "warn", {"cpu_flags": frozenset({"sse2"})}),
        ("memory", "warn", {"free_memory_bytes": GIB}),
        ("huge pages", "warn", {"huge_pages": "never"}),
        ("huge pages", "warn", {"huge_pages": ""}),
        ("c library", "warn", {"glibc": "2.31"}),
        ("c library", "warn", {"glibc": ""}),
        ("shared memory", "fail", {"shared_memory": replace(DISK, free_bytes=64 * 2**20)}),
        ("open files", "warn", {"open_files": 1_024}),
        ("temporary", "fail", {"temporary": FULL}),
        ("temporary", "fail", {"temporary": READ_ONLY}),
        ("gpu", "warn", {"gpus": ("H100",)}),
        ("gpu", "fail", {"gpus": ("H100",), "torch_cuda": "13.0"}),
        ("authentication", "warn", {"token_mode": "disabled"}),
        ("authentication", "warn", {"token_file_mode": 0o644}),
        ("authentication", "warn", {"token_file_mode": None}),
        ("open doors", "warn", {"open_doors": {8265: "dashboard"}}),
        ("open doors", "fail", {"open_doors": {8265: "dashboard"}, "token_mode": ""}),
    ],
)
def test_what_is_wrong_with_a_machine_is_found_with_its_cure(
    check: str, level: str, bad: dict
) -> None:
    findings = machine_findings(replace(GOOD, **bad), WANTED)
    found = named(findings, check)
    assert found.level.value == level
    assert found.cure
    assert exit_code_of(findings) == (level == "fail")


@pytest.mark.parametrize(
    ("check", "level", "bad"),
    [
        ("shared memory", "fail", {"object_store_bytes": 60 * GIB}),
        ("output", "warn", {"output": FULL}),
        ("output", "fail", {"output": READ_ONLY}),
        ("output", "fail", {"locks": False}),
        ("server port", "warn", {"port_is_free": False}),
        ("gpu", "fail", {"trains_on_gpu": True}),
    ],
)
def test_what_a_recipe_cannot_have_is_found_with_its_cure(
    check: str, level: str, bad: dict
) -> None:
    found = named(machine_findings(GOOD, replace(WANTED, **bad)), check)
    assert (found.level.value, bool(found.cure)) == (level, True)


def test_only_doors_of_ray_that_every_machine_can_reach_are_told() -> None:
    lines = [
        "0: 0100007F:2049 00000000:0000 0A 0",  # the dashboard, on loopback
        f"1: {'0' * 32}:2711 00000000:0000 0A 0",  # the client's port, on every address
        "2: 00000000:1F40 00000000:0000 0A 0",  # port 8000, which is not Ray's
        "3: 00000000:2049 0100007F:0001 01 0",  # a connection, which does not listen
    ]
    assert open_doors(lines) == {10001: "client"}


def test_this_machine_can_be_read_and_runs_these_tests(tmp_path: Path) -> None:
    facts = machine_facts()
    assert facts.python.fits
    assert [one.name for one in facts.packages if not one.fits] == []
    wanted = wanted_by(smoke_run(tmp_path / "not" / "there" / "yet").config)
    assert wanted.output.path == str(tmp_path)
    assert (wanted.locks, wanted.output.is_writable) == (True, True)


def test_a_taken_port_is_seen(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        run = smoke_run(tmp_path, f"serve.port={listener.getsockname()[1]}")
        assert not wanted_by(run.config).port_is_free


def test_a_node_of_other_versions_or_without_the_output_fails(tmp_path: Path) -> None:
    good = node_finding("n", NodeAnswer(GOOD, sees_output=True), GOOD, tmp_path)
    blind = node_finding("n", NodeAnswer(GOOD, sees_output=False), GOOD, tmp_path)
    other = replace(GOOD, packages=(Package("ray", ">=2.60", "2.61.0", fits=True),))
    old = node_finding("n", NodeAnswer(other, sees_output=True), GOOD, tmp_path)
    assert [one.level for one in (good, blind, old)] == [Level.OK, Level.FAIL, Level.FAIL]
    assert "ray 2.61.0, here 2.60.0" in old.found


def test_a_node_whose_torch_is_built_for_gpus_is_of_the_same_version(tmp_path: Path) -> None:
    def with_torch(version: str) -> MachineFacts:
        return replace(GOOD, packages=(Package("torch", ">=2.13", version, fits=True),))

    here = with_torch("2.13.0+cpu")
    answer = NodeAnswer(with_torch("2.13.0+cu130"), sees_output=True)
    assert node_finding("n", answer, here, tmp_path).level is Level.OK
    newer = NodeAnswer(with_torch("2.14.0+cpu"), sees_output=True)
    assert node_finding("n", newer, here, tmp_path).level is Level.FAIL


def test_a_gpu_is_wanted_of_the_machines_that_train(tmp_path: Path) -> None:
    here, there = (
        wanted_by(smoke_run(tmp_path, "train.device=cuda", f"ray.address={address}").config)
        for address in ("local", "10.0.0.1:6379")
    )
    assert (here.trains_on_gpu, there.trains_on_gpu) == (True, False)


def test_actors_that_start_again_are_told_and_those_of_others_are_not() -> None:
    assert actors_finding([("Stranger", "RESTARTING"), ("Store", "DEAD")]).level is Level.OK
    found = actors_finding([("Store", "ALIVE"), ("Store", "ALIVE"), ("Store", "RESTARTING")])
    assert (found.level, found.found) == (Level.WARN, "2 stores alive, 1 stores restarting")
    assert "no dashboard" in actors_finding(None).found


def test_a_cluster_that_is_not_there_is_told_without_waiting_for_ray(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (found,) = cluster_findings(smoke_run(tmp_path, f"ray.address={address}").config)
    assert (found.level, "refused" in found.found) == (Level.FAIL, True)


@pytest.mark.ray
def test_every_node_of_a_cluster_answers_and_sees_the_output(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = smoke_run(tmp_path / "output", "ray.address=joined-before", "train.device=cuda").config
    asked: list[str | None] = []

    def listed(*, address: str | None = None, **settings: Any) -> list[Any]:
        asked.append(address)
        return list_actors(address=address, **settings)

    monkeypatch.setattr("pinsage.cluster.doctor_cluster.list_actors", listed)
    findings = cluster_findings(config)
    without_gpu = named(findings, "gpu")
    assert without_gpu.level is Level.WARN
    findings.remove(without_gpu)
    assert {one.level for one in findings} == {Level.OK}, findings_text(findings)
    assert any("sees the output" in one.found for one in findings)
    assert asked == [ray.get_runtime_context().gcs_address], "not what was started last here"
    assert list((tmp_path / "output").iterdir()) == []


@pytest.mark.ray
def test_an_output_that_cannot_be_written_to_is_a_finding_and_the_actors_are_looked_at_still(
    local_ray: None, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "output"
    findings = cluster_findings(smoke_run(output, "ray.address=joined-before").config)
    found = named(findings, "output")
    assert (found.level, found.cure) == (Level.FAIL, OUTPUT_CURE)
    assert "Not a directory" in found.found
    assert named(findings, "actors").level is Level.OK


def test_an_output_that_cannot_be_read_or_is_damaged_is_a_finding_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "generation.json").write_text("{")
    (found,) = output_findings(tmp_path)
    assert (found.level, "damaged" in found.found) == (Level.FAIL, True)
    assert "python -m ray_jobs.pipeline" in found.cure

    def refused(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refused)
    (found,) = output_findings(tmp_path)
    assert (found.level, found.cure) == (Level.FAIL, OUTPUT_CURE)
    assert f"Permission denied: {tmp_path}" in found.found


def test_a_folder_in_one_that_nobody_here_may_look_into_has_a_disk_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = Path.exists

    def refused(self: Path) -> bool:
        if tmp_path in self.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return exists(self)

    monkeypatch.setattr(Path, "exists", refused)
    assert disk_of(tmp_path / "theirs" / "output").path == str(tmp_path)


def test_the_command_ends_with_a_finding_where_what_is_published_cannot_be_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "generation.json").mkdir()
    job = start_job("ray_jobs.doctor", "--config", str(SMOKE), "--set", f"output={tmp_path}")
    text, errors = job.communicate(timeout=120)
    assert (job.returncode, "Is a directory" in text, errors) == (1, True, "")


def test_the_command_says_all_of_it_as_json_and_ends_with_1_if_anything_fails(
    tmp_path: Path,
) -> None:
    arguments = ["--config", str(SMOKE), "--json", "--set", f"output={tmp_path}"]
    job = start_job("ray_jobs.doctor", *arguments, "--set", "train.device=cuda")
    text, errors = job.communicate(timeout=120)
    found = {one["check"]: one for one in json.loads(text)}
    assert (job.returncode, found["gpu"]["level"]) == (1, "fail"), errors
    assert found["cluster"]["level"] == "ok"
