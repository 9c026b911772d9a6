"""The files for `ray up`: checked by Ray itself, against an AWS made of paper, and as shell."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from pinsage.base.config import load_config
from pinsage.cluster.demands import demands
from pinsage.cluster.run_config import RunConfig
from serve.app import AppArgs
from tests.deploy.guide import proxies_environment
from tests.deploy.room import recipes_without_place, without_place
from tests.runs import ROOT

FILES = [ROOT / "cluster.yaml", ROOT / "deploy" / "cluster-gcp.yaml"]
COMMANDS = [
    f"{who}{what}"
    for who in ("", "head_", "worker_")
    for what in ("setup_commands", "start_ray_commands")
    if who or what == "setup_commands"
]

clusters = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def loaded(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def prepared(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    with mock_aws():
        return dict(prepare_config(loaded(path)))


def starts_of_ray(config: dict[str, Any]) -> list[str]:
    found = [
        command
        for name in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[name]
        if "ray start" in command
    ]
    assert len(found) == 2
    return found


def all_commands(config: dict[str, Any]) -> list[str]:
    commands = [command for name in COMMANDS for command in config.get(name, [])]
    for node_type in config["available_node_types"].values():
        commands += node_type.get("worker_setup_commands", [])
    return commands


@clusters
def test_ray_takes_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validate_config(prepared(path, monkeypatch))


@clusters
def test_every_recipe_finds_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipes_without_place(prepared(path, monkeypatch)) == []


@clusters
def test_a_recipe_too_large_for_the_file_finds_no_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared(path, monkeypatch)
    recipe = load_config(RunConfig, ROOT / "ray_jobs/recipes/cluster.yaml", ["train.num_workers=5"])
    (train,) = (each for each in demands(recipe, num_gpus=4) if each.stage == "train")
    assert without_place(config, train) == [{"CPU": 1.0, "GPU": 1.0}]


@clusters
def test_every_ray_process_wants_the_token_and_nothing_listens_to_the_world(path: Path) -> None:
    config = loaded(path)
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    starts = starts_of_ray(config)
    # A stopped job has time to save a checkpoint.
    wanted = "export RAY_AUTH_MODE=token RAY_JOB_STOP_WAIT_TIME_S=60 "
    assert all(command.startswith(wanted) for command in starts)
    (head,) = (command for command in starts if "--head" in command)
    assert "--dashboard-host=127.0.0.1" in shlex.split(head)
    assert not re.search(r"\b0\.0\.0\.0", path.read_text())


@clusters
def test_every_command_is_shell_and_every_file_it_sends_is_here(path: Path) -> None:
    config = loaded(path)
    for command in all_commands(config):
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
        assert done.returncode == 0, command
        # A quoted tilde is no home.
        assert "'~" not in command
        assert '"~' not in command
    for local in config["file_mounts"].values():
        assert local.startswith("~") or (ROOT / local).exists()


@clusters
def test_the_environment_is_the_one_that_was_tested(path: Path) -> None:
    config = loaded(path)
    installs = [command for command in all_commands(config) if "/pinsage[" in command]
    assert len(installs) == 2
    assert all("-c ~/pinsage/constraints.txt" in command for command in installs)


@clusters
def test_every_node_has_the_server_and_ray_is_told_where(path: Path) -> None:
    config = loaded(path)
    for folder in ("serve", "pinsage"):
        assert config["file_mounts"][f"/home/ubuntu/pinsage/{folder}"] == folder
    wanted = proxies_environment() | {"PYTHONPATH": "$HOME/pinsage"}
    for start in starts_of_ray(config):
        exported, _, _ = start.removeprefix("export ").partition("; ")
        told = dict(word.split("=", 1) for word in exported.split())
        assert wanted.items() <= told.items()


def test_serve_takes_the_file_and_serves_what_the_clusters_recipe_publishes() -> None:
    checked = ServeDeploySchema.model_validate(loaded(ROOT / "serve" / "config.yaml"))
    (application,) = checked.applications
    assert application.import_path == "serve.app:build_app"
    output = load_config(RunConfig, ROOT / "ray_jobs/recipes/cluster.yaml").output
    assert AppArgs.model_validate(application.args).generation == output / "generation.json"


def test_workers_may_be_spot_and_the_head_never_is() -> None:
    aws, gcp = (loaded(path)["available_node_types"] for path in FILES)
    for kind in ("stores", "trainers"):
        assert aws[kind]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert gcp[kind]["node_config"]["scheduling"][0]["preemptible"]
    assert "InstanceMarketOptions" not in aws["head"]["node_config"]
    assert "scheduling" not in gcp["head"]["node_config"]


def test_on_aws_ray_opens_no_port_and_without_preparation_nothing_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = prepared(FILES[0], monkeypatch)
    region = config["provider"]["region"]
    with mock_aws():
        ec2 = boto3.client("ec2", region_name=region)
        with pytest.raises(AssertionError):
            bootstrap_aws(prepared_with(config, "sg-prepare"))
        (network,) = ec2.describe_vpcs()["Vpcs"]
        group = ec2.create_security_group(
            GroupName="pinsage-ray", Description="made by hand", VpcId=network["VpcId"]
        )["GroupId"]
        ready = bootstrap_aws(prepared_with(config, group))
        rules = ec2.describe_security_groups()["SecurityGroups"]
    for kind in ready["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"] == [group]
        assert kind["node_config"]["SubnetIds"]
    assert {rule["GroupName"] for rule in rules} == {"default", "pinsage-ray"}
    assert all(not rule["IpPermissions"] for rule in rules if rule["GroupId"] == group)


def prepared_with(config: dict[str, Any], group: str) -> dict[str, Any]:
    """With a security group; with a key and a role too, whose making is not what is tested."""
    adapted: dict[str, Any] = yaml.safe_load(yaml.safe_dump(config).replace("sg-prepare", group))
    adapted["auth"]["ssh_private_key"] = __file__
    for kind in adapted["available_node_types"].values():
        kind["node_config"] |= {"KeyName": "mine", "IamInstanceProfile": {"Name": "mine"}}
    return adapted
