"""The image for Kubernetes: what it copies is here, and what it runs is what was tested."""

import re
import shlex
from typing import Any

import yaml
from pathspec import PathSpec

from tests.runs import ROOT

TEXT = (ROOT / "deploy" / "Dockerfile").read_text()
MANIFESTS = [
    document
    for path in (ROOT / "deploy" / "kuberay").glob("*.yaml")
    for document in yaml.safe_load_all(path.read_text())
]
PRIVATE = (".git", "runs", ".venv", "tests", "docs", "data/awesome", "data/openclipart")


def instructions() -> list[list[str]]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", TEXT, flags=re.MULTILINE))
    return [shlex.split(line, comments=True) for line in joined.splitlines() if line.strip()]


def test_what_the_image_copies_is_here_and_let_through_and_nothing_else_is() -> None:
    sent = PathSpec.from_lines("gitignore", (ROOT / ".dockerignore").read_text().splitlines())
    copied = {source for name, *words in instructions() if name == "COPY" for source in words[:-1]}
    for source in copied:
        found = ROOT / source
        assert found.exists(), source
        inside = found / "x" if found.is_dir() else found
        assert not sent.match_file(str(inside.relative_to(ROOT))), source
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if "!" in line}
    assert let_through == copied
    for name in PRIVATE:
        assert sent.match_file(f"{name}/x"), name


def test_the_manifests_use_its_targets_its_folder_and_its_versions() -> None:
    targets = {words[-1] for name, *words in instructions() if name == "FROM"} - {"base"}
    text = "\n".join(path.read_text() for path in (ROOT / "deploy" / "kuberay").glob("*.yaml"))
    assert set(re.findall(r"registry\.example/pinsage:(\w+)", text)) == targets
    (folder,) = (words[0] for name, *words in instructions() if name == "WORKDIR")
    assert set(re.findall(r"local://([\w/]+)", text)) == {folder}
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    (version,) = (line.removeprefix("ray==") for line in pinned if line.startswith("ray=="))
    assert set(re.findall(r"rayVersion: (\S+)", text)) == {version}
    user = {words[0] for name, *words in instructions() if name == "USER"}
    assert user == set(re.findall(r"useradd .*--uid (\d+)", TEXT)) == {"1000"}


def test_both_images_install_the_locked_environment() -> None:
    installs = [words for name, *words in instructions() if name == "RUN" and "pip" in words]
    extras: list[Any] = [words[-1] for words in installs]
    assert extras == [".[cpu]", ".[gpu]"]
    for words in installs:
        assert words[words.index("-c") + 1] == "constraints.txt"
