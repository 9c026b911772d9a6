from pinsage.cluster.reference import reference
from tests.runs import ROOT


def test_the_configuration_reference_is_what_the_classes_say_today() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == reference(), "run `python -m ray_jobs.reference > docs/configuration.md`"


def test_every_setting_of_a_run_is_explained() -> None:
    rows = [line.split("|") for line in reference().splitlines() if line.startswith("| `")]
    assert [row[1] for row in rows if not row[4].strip()] == []
