"""The pages' links lead somewhere, and their commands are run here or say why not."""

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pathspec import PathSpec

from pinsage.base.config import load_config
from pinsage.cluster.run_config import RunConfig, ServeConfig
from pinsage.graph.powerlaw_tables import SyntheticConfig
from serve.api import build_api
from serve.generation import Generation
from tests.runs import ROOT
from tests.serve.fakes import write_generation

PAGES = sorted(
    path for folder in (ROOT, ROOT / "docs", ROOT / "data") for path in folder.glob("**/*.md")
    if not any(part.startswith(".") or part == "runs" for part in path.relative_to(ROOT).parts)
)  # fmt: skip
RECIPES = ROOT / "ray_jobs" / "recipes"
MARKED = (
    "README.md",
    "running.md",
    "generations.md",
    "serving.md",
    "operations.md",
    "data.md",
    "plan-paper.md",
    "SECURITY.md",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_benchmark_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    roots = "pinsage|serve|ray_jobs|benchmarks|tests|deploy|data|docs"
    for name in re.findall(rf"(?<![\w/.])(?:{roots})/[\w/.-]*\w\.(?:py|yaml|md|json|sh)\b", text):
        assert (ROOT / name).exists() or (page.parent / name).exists(), f"{name} is not there"
    for name in re.findall(r"-m (benchmarks|ray_jobs|serve)\.(\w+)", text):
        assert (ROOT / "/".join(name)).with_suffix(".py").exists(), f"{name} is not there"


def settings_shown(page: Path) -> list[tuple[str, list[str]]]:
    """Every command, or part of one, that sets something: the job it is of, and what it sets."""
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r"^```(?:sh|bash)$(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(shown).replace("\\\n", " ").splitlines()
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", prose)]
    found = []
    for words in (shlex.split(line, comments=True) for line in lines if "--set " in line):
        sets = [after for word, after in itertools.pairwise(words) if word == "--set"]
        job = next((word for word in words if word.startswith("ray_jobs.")), "")
        found.append((job, sets))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_a_page_sets_is_one_of_its_job(page: Path) -> None:
    for job, sets in settings_shown(page):
        assert sets, job
        if sets == ["a.b=value"]:
            continue
        recipe, config = RECIPES / "smoke.yaml", RunConfig
        if job == "ray_jobs.synthesize":
            recipe, config = RECIPES / "graphs" / "power_law.yaml", SyntheticConfig
        load_config(config, recipe, sets)


def test_settings_are_found_on_pages() -> None:
    found = settings_shown(ROOT / "README.md") + settings_shown(ROOT / "docs" / "running.md")
    assert len(found) >= 8
    assert ("ray_jobs.search", ["search.num_trials=12"]) in found
    assert any("graph.structure.basis=GRAPH" in sets for _, sets in found)


def test_what_recipes_write_is_neither_committed_nor_sent_with_jobs() -> None:
    ignored = PathSpec.from_lines("gitignore", (ROOT / ".gitignore").read_text().splitlines())
    trees = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RECIPES.glob("**/*.yaml")]
    outputs = [Path(tree["output"]) for tree in trees if "output" in tree]
    assert len(outputs) > 5
    for output in outputs:
        assert output.is_absolute() or ignored.match_file(f"{output}/x"), output


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("name", MARKED)
def test_every_command_of_the_guides_is_run_here_or_says_what_it_needs(name: str) -> None:
    page = ROOT / name if name == "SECURITY.md" else ROOT / "docs" / name
    text = page.read_text(encoding="utf-8")
    for before in re.split(r"^```sh$", text, flags=re.MULTILINE)[:-1]:
        last = before.rstrip().splitlines()[-1]
        assert re.fullmatch(r"<!-- (needs: .*|run by a test.*) -->", last), before[-200:]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def run(words: list[str], folder: Path) -> str:
    command = [sys.executable if word == "python" else word for word in words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_worked_example_from_csv_to_a_graph_works(tmp_path: Path) -> None:
    products, baskets = blocks("data.md", "csv")
    rows = [f"C{number},Cup {number},{number}.5\n" for number in range(40)]
    (tmp_path / "products.csv").write_text(products + "".join(rows))
    rows = [
        f"C{(basket * 7 + place) % 40},{2000 + basket},{1_700_000_000 + 100 * basket + place}\n"
        for basket in range(60)
        for place in range(5)
    ]
    (tmp_path / "baskets.csv").write_text(baskets + "".join(rows))
    run(["python", "-c", *blocks("data.md", "python")], tmp_path)
    (commands,) = blocks("data.md", "sh")
    *cheap, _, _ = commands.splitlines()
    said = [run(line.split(), tmp_path) for line in cheap]
    assert "42 items" in said[-1]
    (shown,) = blocks("data.md", "yaml")
    assert yaml.safe_load((tmp_path / "shop.yaml").read_text()) == yaml.safe_load(shown)


def test_every_call_that_the_guide_names_is_there(tmp_path: Path) -> None:
    app = build_api(Generation.open(write_generation(tmp_path)), ServeConfig())
    known = {
        f"{method.upper()} {path}"
        for path, calls in app.openapi()["paths"].items()
        for method in calls
    }
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:GET|POST|PUT|DELETE) /[^`?]*)`", text)
    assert len(named) > 10
    assert set(named) <= known


def test_the_plan_of_the_guide_is_made(tmp_path: Path) -> None:
    (command,) = blocks("plan-paper.md", "sh")
    assert "most memory" in run(command.split(), ROOT)
