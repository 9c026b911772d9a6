"""What a machine is like, read and not judged: `doctor.py` judges."""

import os
import platform
import resource
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement

from pinsage.base.errors import StorageError
from pinsage.base.machine import available_cpus, memory_bytes
from pinsage.base.shared import is_stored

_ROOT = Path(__file__).parents[2]
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_GPU_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_GPU_QUERY_TIMEOUT_S = 20
_LISTENING = "0A"
_ANYWHERE = {"00000000", "0" * 32}
_RAY_DOORS = {8265: "dashboard", 10001: "client"}
"""Ports through which whoever reaches them may run code, where nothing asks for a token."""


@dataclass(frozen=True)
class Package:
    """One requirement.

    Attributes:
        name: of the distribution.
        wanted: version specifier, as in `>=2.13,<2.15`; empty takes any.
        found: the installed version; None if it is not there.
        fits: whether what was found is what was wanted.
    """

    name: str
    wanted: str
    found: str | None
    fits: bool


@dataclass(frozen=True)
class Disk:
    """The file system that a folder is on.

    Attributes:
        path: the folder, or its nearest parent that is there.
        total_bytes: its size.
        free_bytes: what this user may still write.
        is_writable: whether this user may write into the folder.
    """

    path: str
    total_bytes: int
    free_bytes: int
    is_writable: bool


@dataclass(frozen=True)
class MachineFacts:
    """One machine.

    Attributes:
        name: its host name.
        python: version of Python, and what is wanted.
        packages: what this project requires.
        faiss: installed distributions that bring faiss.
        architecture: as in `x86_64`.
        cpu_flags: features that the processor names.
        cpus: cores that this process may use.
        memory_bytes: memory that it may use.
        free_memory_bytes: of that, what is free.
        huge_pages: the kernel's setting of transparent huge pages; empty where it has none.
        glibc: version of the C library; empty where it is another.
        open_files: how many files a process may have open.
        shared_memory: where Ray's object store lives; None where the system has no such place.
        temporary: where Ray keeps logs, and what its object store has no room for.
        gpus: one line each from the driver.
        torch_cuda: the CUDA version Torch was built for; empty for a CPU build.
        torch_sees_gpu: whether Torch can use a GPU.
        token_mode: Ray's authentication, as the environment says; empty where it says nothing.
        token_file_mode: permissions of the file of Ray's token; None if there is none.
        open_doors: Ray's ports that are open to every machine: port to what it is for.
    """

    name: str
    python: Package
    packages: tuple[Package, ...]
    faiss: tuple[str, ...]
    architecture: str
    cpu_flags: frozenset[str]
    cpus: int
    memory_bytes: int
    free_memory_bytes: int
    huge_pages: str
    glibc: str
    open_files: int
    shared_memory: Disk | None
    temporary: Disk
    gpus: tuple[str, ...]
    torch_cuda: str
    torch_sees_gpu: bool
    token_mode: str
    token_file_mode: int | None
    open_doors: dict[int, str]


@dataclass(frozen=True)
class NodeAnswer:
    """What a node of a cluster says of itself.

    Attributes:
        facts: what it is like.
        sees_output: whether it found the file that was put into the output folder.
    """

    facts: MachineFacts
    sees_output: bool


def node_answer(marker: str) -> NodeAnswer:
    """Look at the machine that this runs on.

    Args:
        marker: path of a file that another machine has just written.
    """
    return NodeAnswer(machine_facts(), _sees(Path(marker)))


def _sees(marker: Path) -> bool:
    try:
        return is_stored(marker)
    except StorageError:
        # Whoever has written it could, so it is this machine that cannot.
        return False


def machine_facts() -> MachineFacts:
    """Look at this machine; changes nothing."""
    shared = Path("/dev/shm")
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    wanted, requirements = _requirements()
    version = platform.python_version()
    return MachineFacts(
        name=platform.node(),
        python=_package(Requirement(f"python{wanted}"), version),
        packages=tuple(_package(one, _version(one.name)) for one in requirements),
        faiss=tuple(name for name in ("faiss-cpu", "faiss-gpu") if _version(name)),
        architecture=platform.machine(),
        cpu_flags=_cpu_flags(),
        cpus=available_cpus(),
        memory_bytes=memory_bytes(),
        free_memory_bytes=min(_free_memory_bytes(), memory_bytes()),
        huge_pages=_chosen(_HUGE_PAGES.read_text("ascii")) if _HUGE_PAGES.exists() else "",
        glibc=platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else "",
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        shared_memory=disk_of(shared) if shared.is_dir() else None,
        temporary=disk_of(Path(os.environ.get("RAY_TMPDIR", "/tmp"))),
        gpus=_gpus(),
        torch_cuda=torch.version.cuda or "",
        torch_sees_gpu=torch.cuda.is_available(),
        token_mode=os.environ.get("RAY_AUTH_MODE", "").lower(),
        token_file_mode=token.stat().st_mode & 0o777 if token.exists() else None,
        open_doors=open_doors(_socket_tables()),
    )


def disk_of(folder: Path) -> Disk:
    """Describe the file system that a folder is on, or will be once it is made."""
    place = folder.absolute()
    while not _is_there(place):
        place = place.parent
    usage = shutil.disk_usage(place)
    return Disk(str(place), usage.total, usage.free, os.access(place, os.W_OK | os.X_OK))


def _is_there(place: Path) -> bool:
    """Tell whether something is there that this user may look at."""
    try:
        return place.exists()
    except PermissionError:
        return False


def open_doors(socket_lines: Iterable[str]) -> dict[int, str]:
    """Find Ray's ports that listen on every address, in lines of `/proc/net/tcp`.

    >>> open_doors(["0: 00000000:2049 00000000:0000 0A", "1: 0100007F:2711 00000000:0000 0A"])
    {8265: 'dashboard'}
    """
    found = {}
    for line in socket_lines:
        address, _, port = line.split()[1].partition(":")
        if line.split()[3] == _LISTENING and address in _ANYWHERE and int(port, 16) in _RAY_DOORS:
            found[int(port, 16)] = _RAY_DOORS[int(port, 16)]
    return found


def _socket_tables() -> list[str]:
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    texts = [table.read_text("ascii") for table in tables if table.exists()]
    return [line for text in texts for line in text.splitlines()[1:]]


def _requirements() -> tuple[str, list[Requirement]]:
    """What the sources beside this file ask for; without those, what the installed wheel does."""
    project = _ROOT / "pyproject.toml"
    if project.exists():
        table = tomllib.loads(project.read_text("utf-8"))["project"]
        return table["requires-python"], [Requirement(text) for text in table["dependencies"]]
    found = metadata.metadata("pinsage")
    listed = [Requirement(text) for text in metadata.requires("pinsage") or []]
    chosen = [one for one in listed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found["Requires-Python"], chosen


def _package(wanted: Requirement, found: str | None) -> Package:
    fits = found is not None and wanted.specifier.contains(found, prereleases=True)
    return Package(wanted.name, str(wanted.specifier), found, fits)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_flags() -> frozenset[str]:
    listing = Path("/proc/cpuinfo")
    if not listing.exists():
        return frozenset()
    lines = listing.read_text("utf-8", errors="replace").splitlines()
    named = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(named, "").split())


def _free_memory_bytes() -> int:
    listing = Path("/proc/meminfo")
    if not listing.exists():
        return memory_bytes()
    fields = dict(line.split(":", 1) for line in listing.read_text("ascii").splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    used = Path("/sys/fs/cgroup/memory.current")
    if used.exists():
        free = min(free, max(memory_bytes() - int(used.read_text("ascii")), 0))
    return free


def _chosen(setting: str) -> str:
    """The choice that the kernel puts in brackets, as in `always [madvise] never`."""
    return setting.partition("[")[2].partition("]")[0]


def _gpus() -> tuple[str, ...]:
    if shutil.which(_GPU_QUERY[0]) is None:
        return ()
    try:
        answer = subprocess.run(
            _GPU_QUERY, capture_output=True, text=True, timeout=_GPU_QUERY_TIMEOUT_S, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        return (f"nvidia-smi fails: {error}",)
    return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())
