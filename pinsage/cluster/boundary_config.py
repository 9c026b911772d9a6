"""Who may call the HTTP server, how often, and what it writes down about each call."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pinsage.base.addresses import FolderPath
from pinsage.base.config import Config


class BoundaryConfig(Config):
    """What every request passes on its way in and out."""

    keys: FolderPath | None = None
    """The file of API keys that `python -m serve.keys` writes; None has no keys."""
    reads: Literal["auto", "open", "key"] = "auto"
    """`auto` answers questions from this machine without a key, and from elsewhere with one."""
    open_to_network: bool = False
    """Let anyone who reaches the port read and write without a key."""
    local_callers: bool = True
    """Take a loopback address for a caller on this machine; no behind a proxy on this machine that
    doesn't say whom it speaks for, by none of the headers that proxies add."""
    allowed_origins: tuple[str, ...] = ()
    """Web sites whose pages may call (CORS), such as `https://shop.example`; none by default."""
    trusted_proxies: tuple[str, ...] = ()
    """IP addresses of reverse proxies whose `X-Forwarded-For` is believed: its last address. Who
    comes through any other proxy, or without an address there, counts as a stranger."""
    requests_per_s: PositiveFloat | None = None
    """Steady rate allowed to one key or, without a key, to one address; a key may have its own.
    None sets no limit. Every replica counts what it sees itself."""
    burst: PositiveInt = 50
    """Requests allowed at once, before the steady rate applies."""
    request_timeout_s: PositiveFloat = 30.0
    """A call that takes longer is answered with a 504; what still waits for its turn then, such as
    a write behind others, is not done. A body that is not in by then gets a 408, and a connection
    that has not said by then what it wants is closed (by `--direct`)."""
    max_url_bytes: PositiveInt = 8192
    """Longer addresses are refused."""
    access_log: bool = False
    """Write one JSON line a request to the log `pinsage.serve.access`."""
    recheck_every: NonNegativeInt = 1000
    """One in so many answers is compared with the exact search, in the background, for the recall
    that `/metrics` shows, and fewer where that would take more than a hundredth of the time; 0
    never compares."""
    metrics: bool = True
    """Offer Prometheus metrics at `/metrics`."""


class ScalingConfig(Config):
    """How many replicas answer, between two bounds."""

    min_replicas: PositiveInt = 1
    """Fewest copies, however little there is to do."""
    max_replicas: PositiveInt = 4
    """Most copies, however much there is to do."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 16
    """Requests a replica should be working on; more start another, fewer stop one."""
    upscale_delay_s: PositiveFloat = 10.0
    """How long the load must ask for more before there are more."""
    downscale_delay_s: PositiveFloat = 300.0
    """How long the load must ask for fewer before there are fewer."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "ScalingConfig":
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas is {self.min_replicas}, above max_replicas {self.max_replicas}"
            )
        return self
