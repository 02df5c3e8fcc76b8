"""python -m wayhome.bench NAME [--json FILE] | --list: each figure is shown beside the alternative measured with it."""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import __path__ as folder
from .metric import Metric, machine, write_json

_NOT_BENCHMARKS = {"__main__", "metric", "control_client"}


def names() -> list[str]:
    """Return every benchmark's name."""
    return sorted(
        module.name.replace("_", "-")
        for module in pkgutil.iter_modules(folder)
        if module.name not in _NOT_BENCHMARKS and not module.name.startswith("_")
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./inv bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=names(), help="which benchmark")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--list", action="store_true", help="name every benchmark")
    options = parser.parse_args(arguments)
    if options.list or options.name is None:
        for name in names():
            print(f"{name:12} {_load(name).SUMMARY}")
        return 0
    metrics = _load(options.name).run()
    _show(options.name, metrics)
    if options.json is not None:
        write_json(options.json, options.name, metrics)
    return 0


def _load(name: str):  # type: ignore[no-untyped-def]  # a module with SUMMARY and run(), see the package's docstring
    return importlib.import_module(f"wayhome.bench.{name.replace('-', '_')}")


def _show(name: str, metrics: list[Metric]) -> None:
    table = Table(title=f"{name}: {machine()}", title_justify="left")
    for column in ("figure", "ours", "against", "ratio", "unit", "runs", "alternative"):
        table.add_column(column, justify="left" if column in ("figure", "unit", "alternative") else "right")
    for metric in metrics:
        against = "-" if metric.against is None else f"{metric.against:.4g}"
        ratio = "-" if metric.ratio is None else f"{metric.ratio:.3g}"
        row = (metric.name, f"{metric.ours:.4g}", against, ratio, metric.unit, str(metric.runs), metric.alternative)
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
