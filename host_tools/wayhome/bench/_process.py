"""What a process holds and does, from proc(5)."""

import os
from pathlib import Path

from ..errors import HostError


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise HostError(f"{path} has no {name}")


def resident_mb(pid: int) -> float:
    """Return a process's RSS, shared pages of its libraries among it."""
    return _field(Path(f"/proc/{pid}/status"), "VmRSS") / 1024


def peak_mb(pid: int) -> float:
    """Return the most RSS it had since forget_peak() or its start."""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM") / 1024


def forget_peak(pid: int) -> None:
    """Begin the peak anew. Source: proc(5), /proc/PID/clear_refs."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def wakeups(pid: int) -> int:
    """Return how often its threads have gone to sleep so far, which is how often they were woken."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(_field(task / "status", "voluntary_ctxt_switches") for task in tasks)


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far, its own and the kernel's for it: fields 14 and 15 of its stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Return the processes that a process's first thread has started and that still run."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
