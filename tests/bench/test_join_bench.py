"""One round of the benchmark `join`: its names stay, ours and the real client's are measured side by side."""

import pytest

from wayhome.bench import join

pytestmark = [pytest.mark.lab, pytest.mark.interop]


def test_a_newcomer_is_timed_by_the_relay_and_directly_beside_a_real_client(monkeypatch):
    monkeypatch.setattr(join, "_RUNS", 1)
    metrics = {metric.name: metric for metric in join.run()}
    compared = {"relayed_first_reply_s", "direct_first_reply_s", "went_direct_s", "daemon_rss_mb"}
    assert {*compared, "coordinator_rss_mb"} <= set(metrics)
    assert all(metric.ours > 0 for metric in metrics.values())
    assert all((metrics[name].against or 0) > 0 for name in compared)
    assert metrics["went_direct_s"].ours <= metrics["direct_first_reply_s"].ours
