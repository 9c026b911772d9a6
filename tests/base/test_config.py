from pathlib import Path

import pytest

from pinsage.base.config import Config, dump_config, load_config
from pinsage.base.errors import ConfigError


class Inner(Config):
    size: int = 3
    names: list[str] = []


class Outer(Config):
    inner: Inner = Inner()
    maybe: Inner | None = None
    many: list[Inner] = []
    required: int


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_dumped_config_loads_back_unchanged(tmp_path: Path) -> None:
    config = load_config(Outer, write(tmp_path, "required: 1\ninner: {size: 7}"), ["inner.size=9"])
    assert config.inner.size == 9
    assert load_config(Outer, write(tmp_path, dump_config(config))) == config


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("required: 1\ninner: {sise: 7}", [], ["inner.sise", "did you mean size?"]),
        ("required: 1\nmaybe: {sise: 7}", [], ["maybe.sise", "did you mean size?"]),
        ("required: 1\nmany: [{sise: 7}]", [], ["many.0.sise", "did you mean size?"]),
        ("required: 1\nzebra: 7", [], ["zebra", "known here: inner, maybe, many, required"]),
        ("inner: {size: many}", [], ["2 setting(s)", "required: missing", "found 'many'"]),
        ("required: 1", ["inner.size"], ["wanted a.b=value"]),
        ("required: 1", ["required.deep=1"], ["single value"]),
        ("required: 1\nmany: [{size: 1}]", ["many.1.size=2"], ["no place in a list of 1"]),
        ("[1, 2", [], ["not valid YAML"]),
        ("- 1", [], ["found list"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(
    tmp_path: Path, text: str, overrides: list[str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, write(tmp_path, text), overrides)
    for word in words:
        assert word in str(caught.value)


def test_an_override_reaches_into_lists(tmp_path: Path) -> None:
    path = write(tmp_path, "required: 1\nmany: [{size: 1}, {size: 2}]")
    config = load_config(Outer, path, ["many.1.size=5", "maybe.size=6"])
    assert [inner.size for inner in config.many] == [1, 5]
    assert config.maybe == Inner(size=6)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(ConfigError, match="not a text file"):
        load_config(Outer, tmp_path / "recipe.yaml")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no-such\.yaml: cannot be read"):
        load_config(Outer, Path("no-such.yaml"))
