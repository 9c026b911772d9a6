"""What the guides have Ray's processes told."""

import re

from tests.runs import ROOT


def proxies_environment() -> dict[str, str]:
    """The variables that docs/generations.md sets where Ray's processes start."""
    text = (ROOT / "docs" / "generations.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^(RAY_SERVE_\w+)=(\S+)$", text, flags=re.MULTILINE))
