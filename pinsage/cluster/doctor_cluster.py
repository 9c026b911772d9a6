"""Is the cluster ready? Its nodes, what each is like, and whether all of them see the output."""

import fcntl
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from packaging.version import Version
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import list_actors

from pinsage.base import shared
from pinsage.base.addresses import Place, place_of, shown
from pinsage.base.errors import ResourceError, StorageError, what_failed
from pinsage.base.storage import read_object, remove_objects, write_object
from pinsage.cluster.doctor import OUTPUT_CURE, Finding, Level, Wanted
from pinsage.cluster.doctor_facts import (
    MachineFacts,
    NodeAnswer,
    disk_of,
    machine_facts,
    node_answer,
)
from pinsage.cluster.lineage_text import size_text
from pinsage.cluster.run_config import RunConfig
from pinsage.cluster.session import cluster_address, session

_ANSWER_TIMEOUT_S = 60.0
_STATE_TIMEOUT_S = 10
_CONNECT_TIMEOUT_S = 5.0
_PARTS = {"Store": "stores", "Walker": "walkers", "Board": "trainings", "Producer": "producers"}
"""Classes of our actors, and what they are called here."""


def wanted_by(config: RunConfig) -> Wanted:
    """Say what a recipe asks of this machine; tries the output's locks and the server's port."""
    host, port = config.serve.host, config.serve.port
    disk = disk_of(config.output)
    return Wanted(
        object_store_bytes=config.ray.object_store_bytes,
        output=disk,
        locks=disk.is_writable and _can_lock(Path(disk.path)),
        listens_on=(host, port),
        port_is_free=_is_free(host, port),
        trains_on_gpu=config.train.device == "cuda" and cluster_address(config.ray) == "local",
    )


def cluster_findings(config: RunConfig) -> list[Finding]:
    """Judge the cluster that a run would use; where it would start one here, say so."""
    address = cluster_address(config.ray)
    if address == "local":
        told = "none configured; a run starts one on this machine for its length"
        return [Finding("cluster", Level.OK, told)]
    silent = _silence(address)
    if silent:
        cure = "start it, or set ray.address=local to run on this machine alone"
        return [Finding("cluster", Level.FAIL, f"{address}: {silent}", cure)]
    try:
        with session(config.ray):
            return list(_cluster(address, config))
    except ResourceError as error:
        cure = "a cluster with tokens wants RAY_AUTH_MODE=token and its ~/.ray/auth_token here"
        return [Finding("cluster", Level.FAIL, str(error), cure)]


def bucket_findings(config: RunConfig) -> list[Finding]:
    """Try to write, read and remove an object where the output is; nothing for a folder."""
    place = place_of(config.output)
    if place is None:
        return []
    probe = place.under(f".doctor-{socket.gethostname()}")
    try:
        return [_tried(probe, shown(config.output))]
    except StorageError as error:
        cure = "give this machine credentials or a role, or set `output` to another place"
        return [Finding("bucket", Level.FAIL, str(error), cure)]


def _tried(probe: Place, output: str) -> Finding:
    content = str(time.time_ns()).encode()
    write_object(probe, content)
    found = read_object(probe)
    remove_objects(probe, [""])
    if found != content:
        cure = "an object must be seen as soon as it is written; use a store that holds to that"
        return Finding("bucket", Level.FAIL, f"{output}: does not give what was written", cure)
    return Finding("bucket", Level.OK, f"{output} can be written, read and removed from")


def _silence(address: str) -> str:
    """Why nothing answers at a cluster's address, or empty; Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return ""
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _cluster(address: str, config: RunConfig) -> Iterator[Finding]:
    nodes = ray.nodes()
    alive = [node for node in nodes if node["Alive"]]
    resources = ray.cluster_resources()
    told = (
        f"{address}: {len(alive)} nodes, {resources.get('CPU', 0):g} CPUs, "
        f"{resources.get('GPU', 0):g} GPUs, {size_text(resources.get('memory', 0))} of memory"
    )
    few = resources.get("CPU", 0) < 2
    yield Finding(
        "cluster",
        Level.FAIL if few else Level.OK,
        told,
        "add nodes: at least 2 CPUs are needed" if few else "",
    )
    if len(alive) < len(nodes):
        cure = "look at `ray status`; work that was there has gone on elsewhere or waits"
        yield Finding("lost nodes", Level.WARN, f"{len(nodes) - len(alive)} of {len(nodes)}", cure)
    if config.train.device == "cuda" and not resources.get("GPU"):
        cure = "training waits for a node with one: let the autoscaler add it, or start it"
        yield Finding("gpu", Level.WARN, "none in the cluster, and train.device is cuda", cure)
    yield from _nodes(alive, config.output)
    yield actors_finding(_listed())


def _nodes(alive: list[dict[str, Any]], output: Path) -> Iterator[Finding]:
    here = machine_facts()
    try:
        answers = list(_ask(alive, output))
    except (OSError, StorageError) as error:
        told = what_failed(error) if isinstance(error, OSError) else str(error)
        yield Finding(
            "output", Level.FAIL, f"cannot be written to by this user: {told}", OUTPUT_CURE
        )
        return
    for address, answer in answers:
        if answer is None:
            cure = "look at that node's log, or take it out of the cluster"
            told = f"no answer in {_ANSWER_TIMEOUT_S:g} s"
            yield Finding(f"node {address}", Level.FAIL, told, cure)
            continue
        yield node_finding(address, answer, here, output)


def node_finding(address: str, answer: NodeAnswer, here: MachineFacts, output: Path) -> Finding:
    """Compare one node with the machine that asks."""
    check = f"node {address}"
    facts = answer.facts
    versions = {package.name: package.found for package in here.packages}
    others = [
        f"{package.name} {package.found}, here {versions.get(package.name)}"
        for package in facts.packages
        if _release(package.found) != _release(versions.get(package.name))
    ]
    if others:
        cure = "install the same constraints.txt on all nodes"
        return Finding(check, Level.FAIL, "; ".join(others), cure)
    if not answer.sees_output:
        cure = "set `output` to a folder that all nodes share, or to an object store"
        return Finding(check, Level.FAIL, f"does not see what is written to {output}", cure)
    told = f"{facts.cpus} cores, {size_text(facts.memory_bytes)}, {len(facts.gpus)} GPUs"
    return Finding(check, Level.OK, f"{told}; sees the output")


def _release(version: str | None) -> str | None:
    """Leave out of a version what it was built for: `2.13.0` of `2.13.0+cpu`."""
    return version and Version(version).public


def _ask(alive: list[dict[str, Any]], output: Path) -> Iterator[tuple[str, NodeAnswer | None]]:
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=output, prefix=".doctor-") as marker:
        shared.push(Path(marker.name))
        asked = {
            node["NodeManagerAddress"] + ":" + str(node["NodeManagerPort"]): _Look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(marker.name)
            for node in alive
        }
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=_ANSWER_TIMEOUT_S)
        for address, reference in asked.items():
            try:
                yield address, ray.get(reference, timeout=1)
            except (ray.exceptions.GetTimeoutError, ray.exceptions.RaySystemError):
                yield address, None
        place = place_of(Path(marker.name))
        if place is not None:
            remove_objects(place, [""])


_Look: Any = ray.remote(num_cpus=0, max_retries=0)(node_answer)


def _listed() -> list[tuple[str, str]] | None:
    """Class and state of every actor; None where nothing can tell, as without a dashboard."""
    try:
        # By itself it would ask the cluster that was started last on this machine.
        here = ray.get_runtime_context().gcs_address
        found = list_actors(address=here, limit=10_000, timeout=_STATE_TIMEOUT_S)
    except (ray.util.state.exception.RayStateApiException, ConnectionError, OSError):
        return None
    return [(actor.class_name, actor.state) for actor in found]


def actors_finding(listed: list[tuple[str, str]] | None) -> Finding:
    """Judge this project's actors: a store that starts again and again is seen here."""
    if listed is None:
        return Finding("actors", Level.OK, "not looked at: this cluster has no dashboard to ask")
    states = Counter((_PARTS[name], state) for name, state in listed if name in _PARTS)
    now = {key: count for key, count in states.items() if key[1] != "DEAD"}
    told = ", ".join(f"{count} {part} {state.lower()}" for (part, state), count in now.items())
    if any(state != "ALIVE" for _, state in now):
        cure = "they wait for room or start again: look at `ray status` and `ray list actors`"
        return Finding("actors", Level.WARN, told, cure)
    return Finding("actors", Level.OK, told or "none of ours; no job is running")


def _can_lock(folder: Path) -> bool:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
