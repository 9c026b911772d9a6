"""A head with a token, for all tests that look at one from outside."""

from collections.abc import Iterator

import pytest

from tests.security.heads import Head, head


@pytest.fixture(scope="package")
def running() -> Iterator[Head]:
    with head() as started:
        yield started
