"""What a benchmark says: one figure of ours beside the alternative's, measured in the same run."""

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Metric:
    """One figure. `against` is None where there is no alternative to measure; then `alternative` says why."""

    name: str
    ours: float
    against: float | None
    alternative: str
    unit: str
    runs: int

    @property
    def ratio(self) -> float | None:
        """Return ours / against."""
        return None if not self.against else self.ours / self.against


def machine() -> str:
    """Return one line about the machine that measured."""
    software = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{platform.machine()}, {os.cpu_count()} cores, {software}"


def as_json(name: str, metrics: list[Metric]) -> dict[str, object]:
    """Return the document that `bench --json` writes."""
    return {
        "name": name,
        "machine": machine(),
        "metrics": {
            m.name: {
                "ours": m.ours,
                "against": m.against,
                "alternative": m.alternative,
                "ratio": m.ratio,
                "unit": m.unit,
                "runs": m.runs,
            }
            for m in metrics
        },
    }


def write_json(path: Path, name: str, metrics: list[Metric]) -> None:
    path.write_text(json.dumps(as_json(name, metrics), indent=2) + "\n")
