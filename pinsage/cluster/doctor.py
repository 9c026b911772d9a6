"""Is this machine or cluster ready? Facts in, findings out, each with its cure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pinsage.base.errors import ArtifactError, what_failed
from pinsage.cluster.doctor_facts import Disk, MachineFacts
from pinsage.cluster.lineage import read_output
from pinsage.cluster.lineage_text import size_text

_FEW_BYTES = 4 * 2**30
"""Memory or disk below which the bundled books are already tight."""

_FEW_FILES = 4_096
"""Ray opens a file or two for every process and connection."""

_SPILL_LIMIT = 0.95
"""Share of a disk beyond which Ray refuses to write to it."""

OUTPUT_CURE = (
    "give this user a folder to read and write as `output`, or take it from whoever owns it"
)


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at.
        level: how bad it is.
        found: what was found.
        cure: what to do, unless it is fine.
    """

    check: str
    level: Level
    found: str
    cure: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a recipe asks of a machine.

    Attributes:
        object_store_bytes: Ray's shared memory, where a cluster is started here.
        output: the disk of the output folder.
        locks: whether a file in there can be locked.
        listens_on: host and port of the server.
        port_is_free: whether nothing else listens there.
        trains_on_gpu: whether the recipe insists on a GPU.
    """

    object_store_bytes: int
    output: Disk
    locks: bool
    listens_on: tuple[str, int]
    port_is_free: bool
    trains_on_gpu: bool


def machine_findings(facts: MachineFacts, wanted: Wanted) -> list[Finding]:
    """Judge one machine."""
    return [
        *_software(facts),
        *_processor(facts),
        *_memory(facts, wanted),
        *_disks(facts, wanted),
        *_gpu(facts, wanted),
        *_access(facts, wanted),
    ]


def output_findings(folder: Path) -> list[Finding]:
    """Judge what is published: its files are there, and as long as their manifests say."""
    try:
        output = read_output(folder)
    except OSError as error:
        return [Finding("published", Level.FAIL, what_failed(error), OUTPUT_CURE)]
    except ArtifactError as error:
        told, _, cure = str(error).partition("; ")
        return [Finding("published", Level.FAIL, told, cure)]
    damaged = [one for one in output.pieces if one.problem]
    if not damaged:
        return [Finding("published", Level.OK, f"{len(output.pieces)} pieces, all whole")]
    return [
        Finding(
            "published",
            Level.FAIL,
            f"{one.path}: {one.problem}",
            "delete that directory and run the pipeline again",
        )
        for one in damaged
    ]


def exit_code_of(findings: list[Finding]) -> int:
    """0, or 1 where something must be mended first."""
    return int(any(one.level is Level.FAIL for one in findings))


def findings_text(findings: list[Finding]) -> str:
    """One line a finding, its cure under it, and how many of each kind there are."""
    width = max((len(one.check) for one in findings), default=0)
    lines = []
    for one in findings:
        lines.append(f"{one.level.value:<5} {one.check:<{width}}  {one.found}")
        if one.cure:
            lines.append(f"{'':<6}{'':<{width}}  -> {one.cure}")
    counts = {level: sum(one.level is level for one in findings) for level in Level}
    told = f"{counts[Level.OK]} ok, {counts[Level.WARN]} to look at, {counts[Level.FAIL]} to mend"
    return "\n".join([*lines, "", told])


def _software(facts: MachineFacts) -> Iterator[Finding]:
    python = facts.python
    yield Finding(
        "python",
        Level.OK if python.fits else Level.FAIL,
        f"{python.found} (wanted {python.wanted})",
        "" if python.fits else f"make a new environment with Python {python.wanted}",
    )
    for package in facts.packages:
        if package.fits and package.name not in {"ray", "torch"}:
            continue
        found = f"{package.found or 'not installed'} (wanted {package.wanted or 'any version'})"
        cure = "pip install -c constraints.txt -e '.[cpu]' (or '.[gpu]')"
        level = Level.OK if package.fits else Level.FAIL
        yield Finding(package.name, level, found, "" if package.fits else cure)
    others = sum(package.fits for package in facts.packages)
    yield Finding("packages", Level.OK, f"{others} of {len(facts.packages)} as wanted")
    yield _faiss(facts)


def _faiss(facts: MachineFacts) -> Finding:
    if len(facts.faiss) > 1:
        cure = "pip uninstall " + " ".join(facts.faiss) + ", then install one of them again"
        found = f"{' and '.join(facts.faiss)}, which overwrite each other"
        return Finding("faiss", Level.FAIL, found, cure)
    if not facts.faiss:
        cure = "pip install 'pinsage[cpu]' (or [gpu]); without, index.kind is exact or lsh"
        return Finding("faiss", Level.WARN, "not installed", cure)
    if facts.gpus and facts.faiss == ("faiss-cpu",):
        cure = "pip uninstall faiss-cpu; pip install 'pinsage[gpu]' searches on the GPU"
        return Finding("faiss", Level.WARN, "faiss-cpu, beside a GPU", cure)
    return Finding("faiss", Level.OK, facts.faiss[0])


def _processor(facts: MachineFacts) -> Iterator[Finding]:
    if facts.cpus < 2:
        cure = "give it two or more: one alone is never left for what others wait for"
        yield Finding("cores", Level.WARN, f"{facts.cpus} core", cure)
    else:
        yield Finding("cores", Level.OK, f"{facts.cpus} cores")
    known = [name for name in ("avx2", "avx512f", "amx_bf16", "asimd") if name in facts.cpu_flags]
    found = f"{facts.architecture}, {', '.join(known) or 'no vector features named'}"
    is_slow = facts.architecture == "x86_64" and "avx2" not in facts.cpu_flags
    cure = "everything works, several times as slowly; take a processor made since 2015"
    yield Finding("processor", Level.WARN if is_slow else Level.OK, found, cure if is_slow else "")


def _memory(facts: MachineFacts, wanted: Wanted) -> Iterator[Finding]:
    found = f"{size_text(facts.memory_bytes)}, {size_text(facts.free_memory_bytes)} free"
    few = facts.free_memory_bytes < _FEW_BYTES
    cure = "end other programs, or raise the container's limit; `ray_jobs.plan` says what is needed"
    yield Finding("memory", Level.WARN if few else Level.OK, found, cure if few else "")
    if facts.huge_pages in {"always", "madvise"}:
        yield Finding("huge pages", Level.OK, facts.huge_pages)
    else:
        cure = (
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled; walks and "
            "training are up to 1.4 times as fast with them"
        )
        yield Finding("huge pages", Level.WARN, facts.huge_pages or "none in this kernel", cure)
    old = tuple(map(int, facts.glibc.split("."))) < (2, 35) if facts.glibc else True
    yield Finding(
        "c library",
        Level.WARN if old else Level.OK,
        f"glibc {facts.glibc}" if facts.glibc else "not glibc",
        "training asks glibc 2.35 or newer for huge pages; a newer system is faster" if old else "",
    )
    yield _shared_memory(facts.shared_memory, wanted.object_store_bytes)
    few = facts.open_files < _FEW_FILES
    yield Finding(
        "open files",
        Level.WARN if few else Level.OK,
        f"{facts.open_files:,} a process",
        "ulimit -n 65536 before starting Ray" if few else "",
    )


def _shared_memory(found: Disk | None, wanted_bytes: int) -> Finding:
    if found is None:
        return Finding("shared memory", Level.OK, "no /dev/shm; Ray keeps objects in files")
    told = f"/dev/shm has {size_text(found.free_bytes)} free of {size_text(found.total_bytes)}"
    if found.free_bytes >= wanted_bytes:
        return Finding("shared memory", Level.OK, told)
    cure = (
        f"start the container with --shm-size={-(-2 * wanted_bytes // 2**30)}g, or lower "
        "ray.object_store_bytes; Ray else keeps objects in files, many times as slowly"
    )
    wanted = f"{told}, and ray.object_store_bytes asks for {size_text(wanted_bytes)}"
    return Finding("shared memory", Level.FAIL, wanted, cure)


def _disks(facts: MachineFacts, wanted: Wanted) -> Iterator[Finding]:
    output = wanted.output
    told = f"{output.path} has {size_text(output.free_bytes)} free"
    if not output.is_writable:
        cure = "change its owner, or set `output` to a folder of yours"
        yield Finding("output", Level.FAIL, f"{output.path} cannot be written to", cure)
    elif not wanted.locks:
        cure = "without locks two runs could write the same piece; use another file system"
        yield Finding("output", Level.FAIL, f"{output.path} has no file locks", cure)
    elif output.free_bytes < _FEW_BYTES:
        cure = "free some, or set `output` elsewhere; `ray_jobs.plan` says what is needed"
        yield Finding("output", Level.WARN, told, cure)
    else:
        yield Finding("output", Level.OK, told)
    spill = facts.temporary
    used = 1 - spill.free_bytes / max(spill.total_bytes, 1)
    told = f"{spill.path} is {used:.0%} full"
    if not spill.is_writable or used >= _SPILL_LIMIT:
        cure = "free some, or set RAY_TMPDIR: Ray logs there, and stops when it is full"
        told = told if spill.is_writable else f"{spill.path} cannot be written to"
        yield Finding("temporary", Level.FAIL, told, cure)
    else:
        yield Finding("temporary", Level.OK, told)


def _gpu(facts: MachineFacts, wanted: Wanted) -> Iterator[Finding]:
    if not facts.gpus:
        if wanted.trains_on_gpu:
            cure = "set train.device to auto or cpu, or run where there is one"
            yield Finding("gpu", Level.FAIL, "none, and train.device is cuda", cure)
        else:
            yield Finding("gpu", Level.OK, "none; everything runs on the CPU")
        return
    told = "; ".join(facts.gpus)
    if facts.torch_sees_gpu:
        yield Finding("gpu", Level.OK, f"{told}; Torch for CUDA {facts.torch_cuda}")
    elif not facts.torch_cuda:
        cure = "install Torch's CUDA build: https://pytorch.org/get-started/locally"
        yield Finding("gpu", Level.WARN, f"{told}, but this Torch is a CPU build", cure)
    else:
        cure = f"install a driver that knows CUDA {facts.torch_cuda}, or give the container the GPU"
        yield Finding("gpu", Level.FAIL, f"{told}, but Torch cannot use it", cure)


def _access(facts: MachineFacts, wanted: Wanted) -> Iterator[Finding]:
    host, port = wanted.listens_on
    free = wanted.port_is_free
    cure = "" if free else "end what listens there, or --set serve.port=..."
    told = f"{host}:{port} is {'free' if free else 'taken'}"
    yield Finding("server port", Level.OK if free else Level.WARN, told, cure)
    yield _token(facts)
    if facts.open_doors:
        told = ", ".join(f"Ray's {what} on port {port}" for port, what in facts.open_doors.items())
        cure = (
            "whoever reaches it may run code: start Ray with --dashboard-host=127.0.0.1 and "
            "RAY_AUTH_MODE=token, or close the port; see SECURITY.md"
        )
        level = Level.WARN if facts.token_mode == "token" else Level.FAIL
        yield Finding("open doors", level, f"{told} is open to every machine", cure)


def _token(facts: MachineFacts) -> Finding:
    mode, permissions = facts.token_mode, facts.token_file_mode
    if mode and mode != "token":
        cure = "unset RAY_AUTH_MODE, or set it to token: see SECURITY.md"
        found = f"RAY_AUTH_MODE is {mode}: whoever reaches Ray's ports may run code"
        return Finding("authentication", Level.WARN, found, cure)
    if permissions is not None and permissions & 0o077:
        cure = "chmod 600 ~/.ray/auth_token"
        return Finding("authentication", Level.WARN, "others here can read Ray's token", cure)
    if mode == "token" and permissions is None:
        cure = "ray get-auth-token --generate, or copy the cluster's ~/.ray/auth_token here"
        return Finding("authentication", Level.WARN, "token mode, but no token here", cure)
    if not mode and permissions is None:
        found = "by token in clusters that a run starts; `ray start` wants RAY_AUTH_MODE=token"
        return Finding("authentication", Level.OK, found)
    return Finding("authentication", Level.OK, "by token")
