"""Shape contracts on from the graph layer up, Ctrl-C heard, and one local Ray for the whole run."""

import os
import signal
from collections.abc import Iterator

from jaxtyping import install_import_hook

# Before anything of ours is imported. Kernels stay out: the hook would wrap jitted functions.
install_import_hook(
    [
        f"pinsage.{layer}"
        for layer in (
            "graph",
            "sampling",
            "model",
            "training",
            "inference",
            "retrieval",
            "evaluation",
        )
    ],
    "beartype.beartype",
)

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from pinsage.cluster.run_config import RayConfig  # noqa: E402
from pinsage.cluster.session import session  # noqa: E402
from tests.buckets import BucketServer  # noqa: E402

# What a shell runs in the background ignores Ctrl-C, and so would all that tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# For the bucket that tests start. Set before Ray starts, so that its processes have them too.
os.environ |= {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": "test-secret-in-no-file",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

# No test's verdict hangs on the clock: kernels compile on their first call.
settings.register_profile("pinsage", deadline=None)
settings.load_profile("pinsage")


@pytest.fixture(scope="session")
def buckets() -> Iterator[BucketServer]:
    """A server that speaks S3, on this machine."""
    with BucketServer() as server:
        yield server


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of this machine alone, shared by every test that asks for it."""
    os.environ.pop("RAY_ADDRESS", None)
    with session(RayConfig(address="local", object_store_bytes=256 * 2**20)):
        yield
