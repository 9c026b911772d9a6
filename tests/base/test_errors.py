"""What is told of an error that the system raised."""

import errno

import pytest
from ray.exceptions import RayTaskError

from pinsage.base.errors import what_failed


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "/a b"), "Read-only file system: /a b"),
        (
            OSError("9 requested and 3 written"),
            "a file could not be written whole (9 requested and 3 written)",
        ),
    ],
)
def test_a_system_error_is_one_line_wherever_it_was_raised(error: OSError, told: str) -> None:
    from_elsewhere = RayTaskError("walk", "Traceback (most recent call last)", error)
    assert what_failed(error) == told
    assert what_failed(from_elsewhere.as_instanceof_cause()) == told
