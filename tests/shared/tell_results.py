"""A pytest plugin that tells what became of each test as it ends, a line of JSON each: {"id", "outcome", "text"}.

Loaded by name (`-p shared.tell_results`), which is before pytest takes our output away.
"""

import json
import os

import pytest

_stdout = os.fdopen(os.dup(1), "w", buffering=1)
_told: dict[str, dict[str, str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    told = _told.setdefault(report.nodeid, {"id": report.nodeid, "outcome": "passed", "text": ""})
    if report.outcome != "passed":
        told["outcome"] = report.outcome if told["outcome"] != "failed" else "failed"
        told["text"] += report.longreprtext if report.failed else str(report.longrepr)
    if report.when == "teardown":
        # pytest's dots may stand on the line that has begun
        print("\n" + json.dumps(_told.pop(report.nodeid)), file=_stdout)
