"""A program killed at each call by which it changes files, one run a call: what a power cut may leave."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

# what changes files, or forces them to disk
CALLS = "openat,open,write,fsync,rename,renameat,unlink,unlinkat,mkdir,mkdirat,fchmod,chmod,ftruncate"


def each_cut(
    words: Sequence[str], paths: Sequence[Path], trace: Path, before: Sequence[str] = ()
) -> Iterator[tuple[str, int]]:
    """Run the words to their end, then again for each of the calls on these paths that they made, to just before it.

    Gives the call's name and which of that name it was, after each of the killed runs. before: words that come before
    strace's own, as nsenter's.
    """
    base = [*before, "strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={CALLS}"]
    base += [word for path in paths for word in ("-P", str(path))]
    subprocess.run([*base, *words], check=True, timeout=60)
    made = re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE)
    # strace counts the calls of each name by themselves
    for call, when in [(call, made[:at].count(call) + 1) for at, call in enumerate(made)]:
        inject = ["-e", f"inject={call}:signal=KILL:when={when}"]
        done = subprocess.run([*base, *inject, *words], check=False, timeout=60, capture_output=True)
        assert done.returncode != 0, (call, when)
        yield call, when


def written_paths(folder: Path, *names: str) -> list[Path]:
    """Return the paths that are touched where these files of a folder are replaced."""
    return [folder, *(folder / (name + end) for name in names for end in ("", ".new"))]
