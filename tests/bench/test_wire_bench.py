from wayhome.bench import wire


def test_the_wire_benchmark_measures_ours_and_the_alternative_on_both_pythons(monkeypatch):
    monkeypatch.setattr(wire, "ROUNDS", 1)
    monkeypatch.setattr(wire, "REPEATS", 1)
    metrics = {metric.name: metric for metric in wire.run()}
    for figure in ("noise_seal", "noise_open", "derp_decode", "http2_request"):
        measured = metrics[f"{figure}_cpython_us"]
        assert measured.ours > 0
        assert measured.against
        assert measured.unit == "us"
    assert len(metrics) in (4, 8)
