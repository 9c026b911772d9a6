from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, PositiveInt, model_validator

from pinsage.base.config import Config, dump_config, load_config
from pinsage.base.errors import ConfigError


class Inner(Config):
    size: int = 3
    names: list[str] = []

    @model_validator(mode="after")
    def _lucky(self) -> "Inner":
        if self.size == 13:
            raise ValueError("13 brings bad luck")
        return self


class Outer(Config):
    inner: Inner = Inner()
    maybe: Inner | None = None
    many: list[Inner] = []
    some: PositiveInt | tuple[PositiveInt, ...] = 1
    few: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1,)
    rate: float = 1.0
    share: Annotated[float, Field(gt=0)] | None = None
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
        (
            "required: 1\nzebra: 7",
            [],
            ["zebra", "known here: inner, maybe, many, some, few, rate, share, required"],
        ),
        ("inner: {size: many}", [], ["2 setting(s)", "required: missing", "found 'many'"]),
        ("required: 1", ["inner.size"], ["wanted a.b=value"]),
        ("required: 1", ["required.deep=1"], ["single value"]),
        ("required: 1\nmany: [{size: 1}]", ["many.1.size=2"], ["no place in a list of 1"]),
        ("required: 1\nmany: [{size: 1}]", ["many.².size=2"], ["no place in a list of 1"]),
        ("required: 1\ninner:", [], ["1 setting(s)", "inner: wanted a section", "leave out"]),
        ("required: 1\nmany: {size: 1}", [], ["many: wanted a list, as in [a, b]"]),
        ("required: 1\nfew: [0]", [], ["1 setting(s)", "few.0: Input should be greater"]),
        ("required: 1\nsome: 0", [], ["some: Input should be greater", "some: wanted a list"]),
        ("required: 1\nrate: .inf", [], ["rate: Input should be a finite number"]),
        ("required: 1\nrate: yes", [], ["rate: wanted a number (found True)"]),
        ("required: true", [], ["required: wanted a number"]),
        ("required: 1\nshare: no", [], ["share: wanted a number"]),
        ("required: 1\nmaybe: {size: 1, a-b: 2}", [], ["maybe.a-b: no such setting"]),
        ("required: 1\ninner: {size: 13}", [], ["inner: 13 brings bad luck"]),
        ("required: 1", ["rate=2020-13-45"], ["not a YAML value"]),
        ("required: 2020-13-45", [], ["not valid YAML"]),
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
    for jargon in ("Tuple", "tuple[", "constrained", "Value error", "Inner"):
        assert jargon not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{}inner: {{size: 3}}\n", "inner: {{size: 3, names: [], size: 2}}\n"]
)
def test_a_name_that_stands_twice_is_refused_and_both_places_are_named(
    tmp_path: Path, text: str
) -> None:
    path = write(tmp_path, text.format("inner: {names: [a]}\nrequired: 1\n"))
    with pytest.raises(ConfigError, match="stands twice in one section") as caught:
        load_config(Outer, path)
    assert str(caught.value).count("line ") == 2


def test_what_is_merged_in_may_be_said_anew(tmp_path: Path) -> None:
    text = "inner: &a {size: 7, names: [a]}\nmaybe: {<<: *a, size: 9}\nrequired: 1"
    config = load_config(Outer, write(tmp_path, text))
    assert config.maybe == Inner(size=9, names=["a"])


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
