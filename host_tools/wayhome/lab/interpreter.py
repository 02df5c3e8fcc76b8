"""How a lab's helpers, which are modules of this package, are started by the Python that runs now."""

import os
from pathlib import Path

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


def python_environment() -> dict[str, str]:
    """Return the environment in which this Python finds this package, however the program was started."""
    paths = [_PACKAGE_PARENT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
