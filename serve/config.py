"""What the API allows, whoever starts it."""

from pydantic import PositiveInt

from pinsage.base.config import Config


class ServeConfig(Config):
    """Limits and wording of the API; the same for `python -m serve` and `serve deploy`."""

    title: str = "PinSage explorer"
    """The name on the page and on the API's description."""

    default_k: PositiveInt = 12
    """Recommendations a request gets that doesn't say how many it wants."""

    max_k: PositiveInt = 100
    """The most recommendations one item may be asked for."""

    max_item_keys: PositiveInt = 100
    """The most items one `POST /v1/similar` may ask about."""

    max_body_bytes: PositiveInt = 1 << 20
    """Longer request bodies are refused unread."""

    max_feature_bytes: PositiveInt = 2 << 30
    """A feature group that takes more memory than this isn't offered as a method of comparison."""
