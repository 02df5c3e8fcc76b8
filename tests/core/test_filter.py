from wayhomed.core import filter as packet_filter
from wayhomed.core import ranges
from wayhomed.core.filter import read_filter
from wayhomed.wire.address import ip_from_text as ip
from wayhomed.wire.address import ip_text

ALL = {"First": 0, "Last": 65535}


def nobody(_capability):
    return []


def rule(sources, destinations, **more):
    made = {"SrcIPs": sources, "DstPorts": [{"IP": text, "Ports": ports} for text, ports in destinations]}
    made.update(more)
    return made


def texts(content):
    return [ip_text(low) + "-" + ip_text(high) for low, high in content.items()]


def only(given):
    read = read_filter([given], nobody)
    assert not read.problems and len(read.rules) == 1, read.problems
    return read.rules[0]


def complaint(given):
    read = read_filter([given], nobody)
    assert not read.rules and len(read.problems) == 1
    return read.problems[0]


def test_every_form_of_address_is_read():
    read = only(rule(["100.64.0.1", "100.64.0.8/30", "100.64.1.1-100.64.1.9", "fd7a::1"], [("*", ALL)]))
    assert texts(read.sources) == [
        "100.64.0.1-100.64.0.1",
        "100.64.0.8-100.64.0.11",
        "100.64.1.1-100.64.1.9",
        "fd7a::1-fd7a::1",
    ]
    assert tuple(read.openings[0].destinations.items()) == ranges.EVERYTHING


def test_destinations_are_grouped_by_their_ports():
    web = {"First": 80, "Last": 80}
    read = only(rule(["*"], [("10.0.0.1", web), ("10.0.0.2", ALL), ("10.0.0.3", web)]))
    assert [(opening.first, opening.last, texts(opening.destinations)) for opening in read.openings] == [
        (0, 65535, ["10.0.0.2-10.0.0.2"]),
        (80, 80, ["10.0.0.1-10.0.0.1", "10.0.0.3-10.0.0.3"]),
    ]
    assert len(read.destinations().v4) == 3


def test_absent_and_empty_protocols_mean_the_four_usual_ones():
    for more in ({}, {"IPProto": []}, {"IPProto": None}):
        assert only(rule(["*"], [("*", ALL)], **more)).protocols == (6, 17, 1, 58)
    assert only(rule(["*"], [("*", ALL)], IPProto=[47, 6, 6])).protocols == (6, 47)


def test_a_capability_as_source_stands_for_those_who_have_it():
    def holders(capability):
        return [ip("100.64.0.7")] if capability == "cap/printer" else []

    read = read_filter([rule(["cap:cap/printer"], [("*", ALL)]), rule(["cap:other"], [("*", ALL)])], holders)
    assert [texts(each.sources) for each in read.rules] == [["100.64.0.7-100.64.0.7"]]


def test_a_rule_that_grants_capabilities_opens_nothing():
    granted = rule(["*"], [("*", ALL)], CapGrant=[{"Dsts": ["100.64.0.1/32"], "CapMap": {"a": None}}])
    read = read_filter([granted], nobody)
    assert not read.rules and not read.problems


def test_a_rule_with_no_source_or_no_destination_opens_nothing():
    for given in ({}, rule([], [("*", ALL)]), rule(["*"], []), {"SrcIPs": None, "DstPorts": None}):
        read = read_filter([given], nobody)
        assert not read.rules and not read.problems


def test_a_rule_that_cannot_be_read_in_full_opens_nothing_and_is_reported():
    bad_port = [{"First": 9, "Last": 8}, {"First": -1, "Last": 8}, {"First": 0, "Last": 65536}, {"First": 1}, [], None]
    bad_port += [{"First": True, "Last": 5}, {"First": "1", "Last": "2"}, {"First": 1.0, "Last": 2.0}]
    bad = [rule(["*"], [("*", ports)]) for ports in bad_port]
    for text in (
        "",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "1.2.3",
        "10.0.0.9-10.0.0.1",
        "10.0.0.1-fd00::1",
        "a-b",
        "**",
        7,
        None,
    ):
        bad.append(rule(["100.64.0.1", text], [("*", ALL)]))
        bad.append(rule(["100.64.0.1"], [("10.0.0.1", ALL), (text, ALL)]))
    for protocols in ([0], [256], [True], ["tcp"], [None], 6, {"a": 1}):
        bad.append(rule(["*"], [("*", ALL)], IPProto=protocols))
    bad += [None, 5, "rule", [], {"SrcIPs": "*", "DstPorts": []}, {"SrcIPs": ["*"], "DstPorts": ["*"]}]
    for given in bad:
        assert "opens nothing" in complaint(given), given


def test_a_bad_rule_leaves_the_others_standing():
    read = read_filter([rule(["x"], [("*", ALL)]), rule(["*"], [("*", ALL)])], nobody)
    assert len(read.rules) == 1 and "rule 0" in read.problems[0]


def test_ancient_bits_reject_the_whole_filter():
    good = rule(["*"], [("*", ALL)])
    with_bits = {"SrcIPs": ["*"], "DstPorts": [{"IP": "10.0.0.1", "Bits": 24, "Ports": ALL}]}
    for ancient in (rule(["10.0.0.1"], [("*", ALL)], SrcBits=[24]), with_bits):
        read = read_filter([good, ancient, good], nobody)
        assert not read.rules and "everything is closed" in read.problems[0]
    with_bits["DstPorts"][0]["Bits"] = None
    assert len(read_filter([good, with_bits], nobody).rules) == 2


def test_a_filter_too_large_to_hold_closes_everything():
    good = rule(["*"], [("*", ALL)])
    assert len(read_filter([good] * packet_filter.MAX_RULES, nobody).rules) == 4096
    assert not read_filter([good] * (packet_filter.MAX_RULES + 1), nobody).rules
    wide = rule(["10.0.0.1"] * (packet_filter.MAX_ENTRIES + 1), [("*", ALL)])
    assert not read_filter([wide], nobody).rules
    assert not read_filter("*", nobody).rules
    assert not read_filter(None, nobody).rules


def test_complaints_do_not_grow_without_end():
    assert len(read_filter([None] * 4000, nobody).problems) == 20
