"""The manifests for Kubernetes: by KubeRay's schemas, by Serve's, and by what our jobs ask for."""

import gzip
import json
import math
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from ray.serve.schema import ServeDeploySchema

from pinsage.base.config import load_config
from pinsage.cluster.run_config import RunConfig
from serve.app import AppArgs, build_app
from serve.keys import KeyRing, Role, add_key
from serve.recommender import Recommender
from tests.deploy.guide import proxies_environment
from tests.deploy.room import recipes_without_place
from tests.runs import ROOT
from tests.serve.fakes import write_generation

FOLDER = ROOT / "deploy" / "kuberay"
KINDS = {"RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}
SECRETS = {
    "pinsage-ray-token": {"auth_token"},
    "pinsage-redis": {"password"},
    "pinsage-api-keys": {"keys.json"},
}
"""The secrets that docs/running.md makes, and what is in them."""


@cache
def resources() -> list[dict[str, Any]]:
    files = sorted(FOLDER.glob("*.yaml"))
    return [document for path in files for document in yaml.safe_load_all(path.read_text())]


def only(kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = (
        each
        for each in resources()
        if each["kind"] == kind and name in {None, each["metadata"]["name"]}
    )
    return found


@cache
def schema_of(kind: str) -> dict[str, Any]:
    path = Path(__file__).parent / "crds" / f"{kind.lower()}.json.gz"
    return dict(json.loads(gzip.decompress(path.read_bytes())))


def strict(schema: Any) -> Any:
    """As Kubernetes reads a schema when it is told to refuse unknown fields."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(each) for name, each in schema.items()}
    if made.get("type") == "object" and isinstance(made.get("properties"), dict):
        open_ = made.get("x-kubernetes-preserve-unknown-fields", False)
        made.setdefault("additionalProperties", bool(open_))
    return made


def findings(schema: dict[str, Any], value: Any) -> list[str]:
    errors = Draft202012Validator(strict(schema)).iter_errors(value)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


def part_of_schema(kind: str, *path: str) -> dict[str, Any]:
    found = schema_of(kind)
    for name in path:
        found = found["properties"][name]
        found = found.get("items", found)
    return found


def clusters() -> dict[str, dict[str, Any]]:
    return {kind: only(kind)["spec"][where] for kind, where in KINDS.items()}


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that the manifests describe, with a name to tell it by."""
    for kind, cluster in clusters().items():
        yield f"{kind} head", cluster["headGroupSpec"]["template"]["spec"]
        for group in cluster["workerGroupSpecs"]:
            yield f"{kind} {group['groupName']}", group["template"]["spec"]
    yield "submitter", only("RayJob")["spec"]["submitterPodTemplate"]["spec"]
    yield "redis", only("StatefulSet")["spec"]["template"]["spec"]


def ray_resources(group: dict[str, Any]) -> dict[str, float]:
    """What KubeRay has a node of a group offer: its limits, unless Ray's flags say otherwise."""
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    offered = {"CPU": float(math.ceil(float(limits["cpu"])))}
    if "nvidia.com/gpu" in limits:
        offered["GPU"] = float(limits["nvidia.com/gpu"])
    if "num-cpus" in group["rayStartParams"]:
        offered["CPU"] = float(group["rayStartParams"]["num-cpus"])
    return offered


def as_cluster_file(cluster: dict[str, Any]) -> dict[str, Any]:
    groups = cluster["workerGroupSpecs"]
    kinds = {
        group["groupName"]: {
            "resources": ray_resources(group),
            "min_workers": group["minReplicas"],
            "max_workers": group["maxReplicas"],
        }
        for group in groups
    }
    head = {"resources": ray_resources(cluster["headGroupSpec"]), "max_workers": 0}
    return {
        "available_node_types": {"head": head, **kinds},
        "head_node_type": "head",
        "max_workers": sum(group["maxReplicas"] for group in groups),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_kuberay_takes_the_resource_and_would_refuse_a_misspelled_one(kind: str) -> None:
    resource = only(kind)
    assert findings(schema_of(kind), resource) == []
    wrong = json.loads(json.dumps(resource).replace('"mountPath"', '"mountpath"'))
    assert any("mountpath" in text for text in findings(schema_of(kind), wrong))
    wrong = json.loads(json.dumps(resource).replace('"mode": "token"', '"mode": "tokens"'))
    assert any("'tokens' is not one of" in text for text in findings(schema_of(kind), wrong))


def test_what_stands_beside_is_by_the_same_schemas() -> None:
    template = only("StatefulSet")["spec"]["template"]
    where = ("spec", "rayClusterSpec", "headGroupSpec", "template")
    assert findings(part_of_schema("RayJob", *where), template) == []
    rules = part_of_schema("RayJob", "spec", "rayClusterSpec", "networkPolicy", "head")
    for policy in (each for each in resources() if each["kind"] == "NetworkPolicy"):
        given = {"ingressRules": policy["spec"].get("ingress", [])}
        assert findings(rules, given) == [], policy["metadata"]["name"]


def test_every_recipe_finds_room_in_the_job_and_its_server_in_the_service() -> None:
    of_job, of_service = (as_cluster_file(cluster) for cluster in clusters().values())
    assert recipes_without_place(of_job) == []
    assert "serve" not in {stage for _, stage in recipes_without_place(of_service)}
    of_job["available_node_types"]["trainers"]["max_workers"] = 3
    of_job["max_workers"] -= 1
    assert ("cluster", "train") in recipes_without_place(of_job)


def test_the_job_runs_a_recipe_whose_output_is_in_the_shared_folder() -> None:
    spec = only("RayJob")["spec"]
    program, flag, module, config, recipe = shlex.split(spec["entrypoint"])
    assert (program, flag, config) == ("python", "-m", "--config")
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    output = load_config(RunConfig, ROOT / recipe).output
    for _, pod in pods():
        for mount in pod["containers"][0].get("volumeMounts", []):
            if mount["name"] == "shared":
                assert output.is_relative_to(mount["mountPath"])
    served = serve_config()["applications"][0]["args"]["generation"]
    assert Path(served) == output / "generation.json"


def serve_config() -> dict[str, Any]:
    return dict(yaml.safe_load(only("RayService")["spec"]["serveConfigV2"]))


def test_serve_takes_the_configuration_and_the_application_is_ours(tmp_path: Path) -> None:
    checked = ServeDeploySchema.model_validate(serve_config())
    (application,) = checked.applications
    assert application.import_path == f"{build_app.__module__}:{build_app.__name__}"
    arguments = AppArgs.model_validate(application.args)
    # Other machines ask, so keys are wanted; the file is where the secret is mounted.
    assert checked.http_options.host == "0.0.0.0"
    assert arguments.boundary.keys is not None
    generation = write_generation(tmp_path)
    built = build_app(arguments.model_copy(update={"generation": generation}))
    (tuned,) = application.deployments
    assert tuned.name == built._bound_deployment.name
    assert Recommender.__name__ == tuned.name
    assert tuned.max_replicas_per_node == 1
    (group,) = clusters()["RayService"]["workerGroupSpecs"]
    assert group["minReplicas"] >= arguments.num_replicas >= 2


def test_the_server_opens_its_keys_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", Role.READ)
    served = [pod for name, pod in pods() if name.startswith("RayService")]
    assert len(served) == 2
    for pod in served:
        (secret,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "keys")
        # Kubernetes gives the file to root and, by `fsGroup`, to the group that the server is in.
        assert secret["defaultMode"] == 0o440
        assert (
            pod["securityContext"]["fsGroup"]
            == pod["containers"][0]["securityContext"]["runAsGroup"]
        )
        (tmp_path / "keys.json").chmod(secret["defaultMode"])
        assert len(KeyRing.open(tmp_path / "keys.json")) == 1


def test_the_server_outlives_a_replica_and_a_proxy_as_the_guide_says() -> None:
    _, _, folder = serve_config()["applications"][0]["runtime_env"]["working_dir"].partition("://")
    wanted = proxies_environment() | {"PYTHONPATH": folder}
    for name, pod in pods():
        if name.startswith("RayService"):
            told = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
            assert wanted.items() <= told.items(), name


def test_rays_pods_are_one_account_whose_token_only_the_autoscaler_has() -> None:
    account = only("ServiceAccount")["metadata"]
    for name, pod in pods():
        if name.startswith("Ray"):
            assert pod["serviceAccountName"] == account["name"]
        assert pod.get("automountServiceAccountToken", True) is (name == "RayJob head"), name
    assert only("RayJob")["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    assert account["namespace"] == only("RayJob")["metadata"]["namespace"]


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=lambda value: str(value)[:20])
def test_no_pod_is_root_and_each_has_the_volumes_that_it_mounts(
    name: str, pod: dict[str, Any]
) -> None:
    for container in pod["containers"]:
        held = pod.get("securityContext", {}) | container["securityContext"]
        assert held["runAsNonRoot"] is True
        assert held["runAsUser"] > 0
        assert held["seccompProfile"] == {"type": "RuntimeDefault"}
        assert held["allowPrivilegeEscalation"] is False
        assert held["capabilities"] == {"drop": ["ALL"]}
        assert not held.get("privileged")
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
    claims = {"data"} if name == "redis" else set()
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for container in pod["containers"]:
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted <= volumes.keys() | claims
    known = only("PersistentVolumeClaim")["metadata"]["name"]
    for volume in volumes.values():
        assert "hostPath" not in volume
        assert volume.get("persistentVolumeClaim", {"claimName": known})["claimName"] == known


def test_the_secrets_are_those_that_the_guide_makes_and_none_is_in_a_file() -> None:
    wanted: dict[str, set[str]] = {}
    for value in walked(resources()):
        if "secretKeyRef" in value:
            secret = value["secretKeyRef"]
            wanted.setdefault(secret["name"], set()).add(secret["key"])
        if value.get("mode") == "token":
            wanted.setdefault(value["secretName"], set()).add("auth_token")
        elif "secretName" in value:
            wanted.setdefault(value["secretName"], set()).add("keys.json")
    assert wanted == SECRETS
    keys = serve_config()["applications"][0]["args"]["boundary"]["keys"]
    assert Path(keys).name in SECRETS["pinsage-api-keys"]
    assert not [each for each in resources() if each["kind"] == "Secret"]
    guide = (ROOT / "docs" / "running.md").read_text()
    for name, (content,) in SECRETS.items():
        (line,) = (line for line in guide.splitlines() if f"generic {name} " in line)
        assert content in line


def walked(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            yield from walked(each)


def test_every_ray_process_wants_the_token_and_the_server_outlives_its_head() -> None:
    for cluster in clusters().values():
        assert cluster["authOptions"] == {"mode": "token", "secretName": "pinsage-ray-token"}
    kept = clusters()["RayService"]["gcsFaultToleranceOptions"]
    host, _, port = kept["redisAddress"].partition(":")
    service = only("Service")
    assert host == service["metadata"]["name"]
    assert int(port) in {each["port"] for each in service["spec"]["ports"]}
    assert "valueFrom" in kept["redisPassword"]


def test_nobody_is_let_in_but_by_a_rule_that_says_who() -> None:
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in resources()
        if each["kind"] == "NetworkPolicy"
    }
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, policy in policies.items():
        for rule in policy.get("ingress", []):
            assert rule["from"], name
            assert all(selector for source in rule["from"] for selector in source.values()), name
    rays = {"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}
    assert [rule["from"] for rule in policies["redis"]["ingress"]] == [[rays]]
    # Only Ray's own nodes reach all ports; who submits reaches the dashboard alone.
    assert [rule["from"] for rule in policies["ray"]["ingress"] if "ports" not in rule] == [[rays]]
    submitter = only("RayJob")["spec"]["submitterPodTemplate"]["metadata"]["labels"]
    (ports,) = (
        rule["ports"]
        for rule in policies["ray"]["ingress"]
        if {"podSelector": {"matchLabels": submitter}} in rule["from"]
    )
    assert ports == [{"port": 8265}]
