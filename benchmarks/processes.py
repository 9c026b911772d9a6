"""Which processes a run has started, to kill one of them."""

from pathlib import Path


def descendants(root: int) -> dict[int, str]:
    """Give the command line of every process below one, by process id."""
    children: dict[int, list[int]] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            # It ended while we looked.
            continue
        if fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(folder.name))
            titles[int(folder.name)] = title
    found: dict[int, str] = {}
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = titles[child]
            waiting.append(child)
    return found


def actors(root: int, name: str) -> list[int]:
    """List the processes below one that are actors of a class."""
    return [pid for pid, title in descendants(root).items() if title.startswith(f"ray::{name}")]


def is_alive(pid: int) -> bool:
    """Tell whether a process is there, and not merely waiting to be buried."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
