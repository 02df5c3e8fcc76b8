"""The figures of `footprint` are named as others rely on, and computed from what was measured."""

import os
import subprocess
import sys

from wayhome.bench import _process, footprint


def test_footprint_names_a_figure_for_each_runtime_and_number_of_peers():
    held = {
        (who, peers): footprint._Held(idle_mb=size, busy_mb=size + 1, wakeups_per_s=1.5, wireguard_mb=4.0)
        for who, size in (("micropython", 6.0), ("cpython", 30.0), ("tsnet", 60.0))
        for peers in footprint.SIZES
    }
    metrics = {metric.name: metric for metric in [*footprint._memory(held), *footprint._others(held)]}
    for peers in (1, 100, 1000):
        assert metrics[f"rss_idle_{peers}_peers_micropython_mb"].ratio == 0.1
        assert metrics[f"rss_idle_{peers}_peers_cpython_mb"].ratio == 0.5
    assert metrics["idle_wakeups_per_s"].ours == 1.5
    assert 0 < metrics["flash_kb"].ours <= 400


def test_a_process_tells_its_memory_its_wakeups_and_its_time():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid in _process.children(os.getpid())
        assert 0 < _process.resident_mb(process.pid) <= _process.peak_mb(process.pid)
        assert _process.wakeups(process.pid) >= 0
        assert _process.cpu_s(process.pid) >= 0
        process.communicate(b"\n")
