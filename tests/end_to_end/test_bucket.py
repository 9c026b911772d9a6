"""The smoke recipe with its output in a bucket: the stages' own bytes, wherever they are read."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from pinsage.base.artifacts import list_published, open_artifact
from pinsage.base.config import load_config
from pinsage.base.errors import ConfigError
from pinsage.cluster.doctor import Level
from pinsage.cluster.doctor_cluster import bucket_findings
from pinsage.cluster.drivers import JOBS
from pinsage.cluster.lineage import read_output
from pinsage.cluster.lineage_text import status_text
from pinsage.cluster.run import Run
from pinsage.cluster.run_config import RunConfig
from serve.api import build_api
from serve.app import AppArgs
from serve.generation import Generation
from serve.generations import listed
from serve.switch import switch
from tests.buckets import BucketServer
from tests.end_to_end.conftest import Finished
from tests.runs import SMOKE

pytestmark = pytest.mark.ray

SECRET = b"test-secret-in-no-file"

WORKERS = ("stores.mode=sharded", "embed.num_workers=1", "evaluate.baselines=[]")
"""Stores and embedding workers, so that parts go through the bucket; they change no result."""


def run_at(address: str, cache: Path, *settings: str) -> Run:
    told = [f"output={address}", f"storage.cache={cache}", *settings]
    return Run(load_config(RunConfig, SMOKE, told))


@pytest.fixture(scope="module")
def address(buckets: BucketServer) -> str:
    return buckets.new_run()


@pytest.fixture(scope="module")
def published(address: str, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Run:
    run = run_at(address, tmp_path_factory.mktemp("here"), *WORKERS)
    run.save_config()
    for job in JOBS.values():
        job(run)
    run.publish_generation()
    return run


def test_a_bucket_gets_the_bytes_that_a_folder_gets(
    published: Run, finished: Finished, buckets: BucketServer, address: str
) -> None:
    in_folder = {stage.name: stage.open().manifest.digest for stage in finished.run.stages}
    in_bucket = {stage.name: stage.manifest().digest for stage in published.stages}
    assert in_bucket | {"report": ""} == in_folder | {"report": ""}
    objects = buckets.objects(address)
    assert not [name for name in objects if "partial" in name or name.startswith("checkpoints")]
    assert not [name for name, content in objects.items() if SECRET in content]


def test_another_machine_finds_everything_and_serves_it(
    published: Run, address: str, tmp_path: Path
) -> None:
    run = run_at(address, tmp_path, *WORKERS)
    assert all(job(run).was_published for job in JOBS.values())
    args = AppArgs.model_validate({
        "generation": address.replace("?", "/generation.json?"),
        "storage": {"cache": str(tmp_path)},
    })
    assert args.generation == run.output / "generation.json"
    generation = Generation.open(args.generation)
    assert generation.quality["pinsage"]["hit_rate@10"] > 0.3
    with pytest.raises(ConfigError, match=r"serve.writes: wanted a folder with locks"):
        build_api(generation, run.config.serve)
    digest = generation.parts.digest
    assert [one.digest for one in listed(run.output)] == [digest]
    assert f"generation {digest} is to be served" in switch(run.output, digest)
    assert not (run.output / "serving.json").exists()


def test_status_and_doctor_read_a_bucket(
    published: Run, buckets: BucketServer, address: str, tmp_path: Path
) -> None:
    run = run_at(address, tmp_path)
    found = read_output(run.output)
    assert [one.stage for one in found.pieces] == [stage.name for stage in published.stages]
    assert all(one.served and not one.problem for one in found.pieces)
    text = status_text(found)
    assert text.startswith(address.partition("?")[0])
    assert "data/smoke/edges.parquet" in text
    assert [one.level for one in bucket_findings(run.config)] == [Level.OK]
    nowhere = run_at(address.replace("tests/run", "no-such-bucket/run"), tmp_path)
    assert [one.level for one in bucket_findings(nowhere.config)] == [Level.FAIL]
    assert not list((tmp_path / run.output.name).glob("*/*/*.npy"))


def test_a_model_in_a_bucket_is_named_by_its_fingerprint(
    published: Run, address: str, tmp_path: Path
) -> None:
    name = published.model.directory.name
    again = run_at(address, tmp_path, f"embed.model={name}")
    assert list_published(again.output / "model") == [again.output / "model" / name]
    assert open_artifact(again.model.directory, stage="model", check_digests=True)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("output=ftp://host/run", r"begins with s3:// or gs://, found ftp://"),
        ("output=s3://key:secret@bucket/run", r"an address without credentials"),
        ("data.items.path=s3://key:secret@bucket/items", r"an address without credentials"),
        ("output=s3:///run", r"wanted a bucket behind s3://"),
        ("output=s3://$BUCKET/run", r"\$BUCKET would be taken as it stands"),
        ("output=${HOME}/run", r"\$\{HOME\} would be taken as it stands"),
        ("serve.writes=$HOME/writes", r"\$HOME would be taken as it stands"),
        ("serve.writes=s3://bucket/writes", r"wanted a folder of a file system with locks"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_with_the_recipe(setting, words) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(RunConfig, SMOKE, [setting])
    assert "key:secret" not in str(caught.value)


def test_a_folder_may_stand_in_the_home_folder() -> None:
    config = load_config(RunConfig, SMOKE, ["output=~/run", "serve.votes=~/votes"])
    assert (config.output, config.serve.votes) == (Path.home() / "run", Path.home() / "votes")


def test_a_build_on_all_nodes_wants_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"graph.build.spread wants an output folder"):
        run_at("gs://bucket/run", tmp_path, "graph.build.spread=true")


def test_a_saved_recipe_has_the_address_again(tmp_path: Path) -> None:
    config = run_at("gs://bucket/run", tmp_path).config
    tree = json.loads(config.model_dump_json())
    assert tree["output"] == "gs://bucket/run"
    assert RunConfig.model_validate(tree).output == config.output
    with pytest.raises(ValidationError):
        RunConfig.model_validate(tree | {"output": "s4://bucket/run"})
