import socket
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray import serve
from ray.serve.schema import ServeDeploySchema

from pinsage.base.errors import ArtifactError
from serve.__main__ import main
from serve.app import AppArgs, build_app

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "ray_jobs" / "recipes" / "goodbooks.yaml"


def run(*settings: str, generation_path: Path | None = None) -> int:
    """Run `python -m serve` with the books' recipe, pointed at a generation."""
    output = [] if generation_path is None else [f"output={generation_path.parent}"]
    flags = [flag for setting in [*output, *settings] for flag in ("--set", setting)]
    return main(["--config", str(RECIPE), *flags])


def test_the_application_is_described_without_a_cluster(generation_path: Path):
    assert isinstance(build_app(AppArgs(generation=generation_path)), serve.Application)


def test_a_generation_that_is_not_there_is_told_before_anything_starts(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"ray_jobs\.pipeline"):
        build_app(AppArgs(generation=tmp_path / "generation.json"))


def test_the_number_of_replicas_may_follow_the_load_between_two_bounds(generation_path: Path):
    scaled = AppArgs(generation=generation_path, scaling={"min_replicas": 2, "max_replicas": 3})
    assert isinstance(build_app(scaled), serve.Application)
    with pytest.raises(ValidationError, match="above max_replicas"):
        AppArgs(generation=generation_path, scaling={"min_replicas": 5})


def test_a_misspelt_argument_is_refused(generation_path: Path):
    with pytest.raises(ValidationError, match="max_kk"):
        AppArgs.model_validate({"generation": generation_path, "max_kk": 3})


def test_the_deploy_file_is_what_ray_serve_and_the_application_take():
    content = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text(encoding="utf-8"))
    schema = ServeDeploySchema.model_validate(content)
    assert schema.http_options.host == "127.0.0.1"
    (application,) = schema.applications
    assert application.import_path == "serve.app:build_app"
    assert AppArgs.model_validate(application.args).num_replicas == 1


def test_a_busy_port_is_one_line_with_the_port_and_the_setting(
    generation_path: Path, capsys: pytest.CaptureFixture[str]
):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert run("ray.address=local", f"serve.port={port}", generation_path=generation_path) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: port {port} of 127.0.0.1 cannot be used")
    assert "--set serve.port=" in told
    assert told.count("\n") == 1


def test_a_server_open_to_the_network_without_keys_is_refused_before_anything_starts(
    generation_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("serve.host=0.0.0.0", generation_path=generation_path) == 2
    assert "python -m serve.keys add" in capsys.readouterr().err


def test_haproxy_listens_to_everyone_so_it_needs_keys_whatever_the_host(
    generation_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    assert run(generation_path=generation_path) == 2
    assert "python -m serve.keys add" in capsys.readouterr().err


def test_nothing_to_serve_is_one_line_that_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(generation_path=tmp_path / "generation.json") == 1
    told = capsys.readouterr().err
    assert "ray_jobs.pipeline" in told
    assert told.count("\n") == 1


def test_a_misspelt_setting_is_told_with_the_nearest_one(capsys: pytest.CaptureFixture[str]):
    assert run("serve.prot=1") == 2
    assert "did you mean port?" in capsys.readouterr().err


def test_the_resolved_settings_can_be_printed(capsys: pytest.CaptureFixture[str]):
    assert main(["--config", str(RECIPE), "--set", "serve.port=8123", "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["serve"]["port"] == 8123
