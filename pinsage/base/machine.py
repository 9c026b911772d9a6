"""What this machine has to offer."""

import os
from pathlib import Path

ALLOCATOR = {
    # Large buffers come and go every step: huge pages, and no return to the system in between.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": str(2**32 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**32 - 1),
}
"""Environment that a process which trains is started with; nothing changes it later."""


def available_cpus() -> int:
    """Count the cores this process may use: its affinity, and its container's quota."""
    # Not every system can tell a process's affinity; macOS cannot.
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        used, period = quota.read_text(encoding="ascii").split()
        if used != "max":
            count = min(count, max(int(used) // int(period), 1))
    return count


def boot_id() -> str | None:
    """Name this start of the machine, as no other one; None where the system doesn't tell."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.exists() else None


def memory_bytes() -> int:
    """Tell how much memory this process may use: the machine's, or its container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists():
        text = limit.read_text(encoding="ascii").strip()
        if text != "max":
            total = min(total, int(text))
    return total
