"""Draws core/path.py's table: writes the drawing in docs/paths.md anew.

python tests/core/path_drawing.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/paths.md"
BEGIN = "```mermaid\n"
END = "```\n"


def names(kind: type) -> dict[int, str]:
    """Return number -> name of a class of plain ints."""
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


def drawing() -> str:
    """Return NEXT as a mermaid state diagram: one arrow for each two states, with all inputs that lead along it."""
    from wayhomed.core.path import NEXT, PathInput, PathState

    states, inputs = names(PathState), names(PathInput)
    arrows: dict[tuple[int, int], list[str]] = {}
    for (state, path_input), after in sorted(NEXT.items()):
        arrows.setdefault((state, after), []).append(inputs[path_input])
    lines = ["stateDiagram-v2", f"    [*] --> {states[PathState.RELAYED]}"]
    lines += [f"    {states[a]} --> {states[b]}: {', '.join(why)}" for (a, b), why in sorted(arrows.items())]
    return "\n".join(lines) + "\n"


def page_with(text: str, page: str) -> str:
    """Return the page with this drawing in place of the one it has."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + begin + text + end + after


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "firmware"))
    PAGE.write_text(page_with(drawing(), PAGE.read_text()))
