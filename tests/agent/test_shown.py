"""What wayhomectl prints of the local API's answers."""

import json

from wayhomed.agent import shown


def peer(**fields):
    """Return a peer as the local API tells it: by the relay, being tried."""
    told = {
        "id": 2,
        "name": "laptop",
        "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"],
        "routes": [],
        "online": True,
        "expired": False,
        "path": "relay home",
        "endpoint": "",
        "latency_ms": None,
        "since_s": 3.2,
        "reason": "asking",
        "why": "being tried: 2 addresses asked",
        "sent_bytes": 12_345,
        "received_bytes": 678,
    }
    told.update(fields)
    return told


def direct(endpoint="203.0.113.30:41641", **fields):
    told = peer(path="direct " + endpoint, endpoint=endpoint, latency_ms=3, since_s=0.1, reason="direct", why="")
    told.update(fields)
    return told


def status(*peers, **fields):
    told = {
        "state": "running",
        "up": True,
        "auth_url": "",
        "self": {"name": "board.tail.example", "addresses": ["100.64.0.1"]},
        "coordinator": {"url": "https://mesh.example", "connected": True, "joined": True},
        "relay": {"code": "home", "connected": True},
        "tunnel": {"refused": []},
        "waiting_for": "",
        "problems": [],
        "peers": list(peers),
    }
    told.update(fields)
    return told


def table_of(*peers):
    """Return the lines from the table's head on."""
    lines = shown.status(status(*peers))
    return lines[lines.index("") + 1 :]


def test_a_direct_peer_is_shown_with_its_address_its_round_trip_and_since_when():
    lines = table_of(direct(since_s=12.9))
    assert len(lines) == 3
    assert "direct, 3 ms  12 s" in lines[1]
    assert lines[2] == "  direct by 203.0.113.30:41641"


def test_an_endpoint_stands_in_the_table_where_it_fits():
    lines = table_of(direct("192.0.2.1:4164", name="nas"))
    assert len(lines) == 2
    assert "direct 192.0.2.1:4164, 3 ms" in lines[1]


def test_trouble_comes_first_each_with_its_mending_step_and_all_fits_into_80_columns():
    troubles = [
        {"what": "the LAN at eth1 is silent: " + "no neighbour answers; " * 6, "mend": "look at the cable " * 7},
        {"what": "short", "mend": ""},
    ]
    long = "an-uncommonly-long-name-of-a-laptop.tail-of-the-mesh.example"
    lines = shown.status(status(direct(name=long), troubles=troubles, problems=["x " * 90], denied=["y " * 90]))
    assert lines[0].startswith("trouble") and "eth1" in lines[0]
    assert [line for line in lines if "to mend it: look at" in line]
    assert lines.index(next(line for line in lines if line.startswith("state"))) > 6
    assert max([len(line) for line in lines]) <= 80


def test_a_relayed_peer_has_the_reason_below_it():
    lines = table_of(peer())
    assert "relay home" in lines[1]
    assert lines[2] == "  not direct: being tried: 2 addresses asked"


def test_an_idle_peer_takes_one_line():
    lines = table_of(peer(reason="idle", why="idle: no packets for a while", since_s=200))
    assert len(lines) == 2
    assert "relay home, idle  3 min" in lines[1]


def test_the_table_fits_into_80_columns_with_ipv6_and_with_many_routes():
    endpoint = "[2001:db8:1234:5678:9abc:def0:1234:5678]:41641"
    lines = table_of(direct(endpoint, routes=[f"192.168.{number}.0/24" for number in range(9)]))
    assert max([len(line) for line in lines]) <= 80
    assert lines[2] == "  direct by " + endpoint
    assert lines[3].startswith("  routes: 192.168.0.0/24, ")
    assert lines[4].startswith("    192.168.")


def test_a_peer_without_any_path_says_so():
    lines = table_of(peer(path="none", reason="no disco key", why="it has no disco key", since_s=None))
    assert "none" in lines[1]


def changes(before, after, elapsed_s=2.0, **fields):
    return shown.changes(status(*before), status(*after, **fields), elapsed_s)


def test_a_path_that_goes_direct_and_comes_back_is_told_with_how_long_the_other_one_held():
    assert changes([peer()], [direct()]) == ["laptop: direct by 203.0.113.30:41641 (was relay home for 5 s)"]
    back = peer(reason="lost", why="the direct path went silent; being tried again")
    assert changes([direct(since_s=70.0)], [back], 100) == [
        "laptop: by relay home (was direct 203.0.113.30:41641 for 2 min): "
        "the direct path went silent; being tried again"
    ]
    assert changes([direct()], [direct("192.168.1.7:41641")]) == [
        "laptop: direct by 192.168.1.7:41641 (was direct 203.0.113.30:41641 for 2 s)"
    ]


def test_another_reason_is_told_and_other_figures_are_not():
    after = peer(reason="no answer", why="no answer from 2 addresses", since_s=9.0)
    assert changes([peer()], [after]) == ["laptop: by relay home: no answer from 2 addresses"]
    assert changes([peer()], [peer(since_s=7.0, sent_bytes=99_999, latency_ms=4)]) == []


def test_peers_and_links_that_come_and_go_are_told():
    assert changes([], [peer()]) == ["laptop: new, by relay home"]
    assert changes([peer()], []) == ["laptop: gone"]
    assert changes([peer()], [peer(online=False)]) == ["laptop: offline"]
    assert changes([peer()], [peer(expired=True)]) == ["laptop: its key has expired"]
    assert changes([], [], relay={"code": "home", "connected": False}) == ["relay home: not connected"]
    away = {"url": "https://mesh.example", "connected": False}
    assert changes([], [], coordinator=away) == ["coordinator: not connected"]
    assert changes([], [], state="stopped") == ["this machine: stopped (was running)"]
    assert changes([], [], problems=["the disk is full"]) == ["problem: the disk is full"]
    whole, broken = status(), status(problems=["the disk is full"])
    assert shown.changes(broken, whole, 1.0) == ["no longer: the disk is full"]


def test_two_peers_of_one_name_are_not_confused():
    one, other = peer(), peer(id=3)
    assert changes([one, other], [one, direct(id=3)]) == [
        "laptop: direct by 203.0.113.30:41641 (was relay home for 5 s)"
    ]


def udp(asked, answered, unreachable=0):
    return {"asked": asked, "answered": answered, "unreachable": unreachable}


EVIL = "\x1b]0;pwned\x07\x1b[2J\r\nlaptop \x9b31m\u202e"


def test_no_text_of_a_stranger_reaches_the_terminal_as_it_is():
    evil = peer(name=EVIL, path="relay " + EVIL, why=EVIL, routes=[EVIL], addresses=[EVIL])
    told = status(
        evil,
        state=EVIL,
        auth_url=EVIL,
        problems=[EVIL],
        self={"name": EVIL, "addresses": [EVIL]},
        coordinator={"url": EVIL, "connected": True},
        relay={"code": EVIL, "connected": False},
    )
    routes = {
        "refused": [{"node": EVIL, "prefix": EVIL, "reason": EVIL}],
        "advertised": [],
        "published": [{"address": EVIL, "name": EVIL, "target": EVIL}],
        "peers": [{"prefix": EVIL, "via": "a" + EVIL, "used": False}],
        "accepting": False,
    }
    answer = {"name": EVIL, "address": EVIL, "path": EVIL, "latency_ms": 1.0}
    relay = {"code": EVIL, "name": EVIL, "home": True, "connected": True, "latency_ms": {"ipv4": None, "ipv6": 3}}
    measured = {
        "udp": {"ipv4": udp(0, 0), "ipv6": udp(0, 0)},
        "outside": [EVIL],
        "words": [EVIL],
        "relays": [relay],
        "endpoints": [{"endpoint": EVIL, "from": EVIL}],
    }
    lines = shown.status(told) + shown.routes(routes) + shown.netcheck(measured) + [shown.answer(answer)]
    lines += shown.changes(status(), told, 1.0) + shown.changes(told, status(peer()), 1.0)
    assert "pwned" in "".join(lines)
    for line in lines:
        assert not [c for c in line if ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c == "\u202e"], line


def test_json_holds_no_control_character_and_means_the_same():
    text = shown.json_text({"name": EVIL + "\x7f ä"})
    assert not [c for c in text if ord(c) < 32 or 0x7F <= ord(c) < 0xA0], text
    assert json.loads(text) == {"name": EVIL + "\x7f ä"}


def test_an_answer_has_a_tenth_of_a_millisecond():
    answer = {"name": "nas", "address": "100.64.0.3", "path": "relay home", "latency_ms": 23.44}
    assert shown.answer(answer) == "nas (100.64.0.3) by relay home: 23.4 ms"
    answer = {"name": "nas", "address": "100.64.0.3", "path": "direct 203.0.113.30:41641", "latency_ms": 3}
    assert shown.answer(answer) == "nas (100.64.0.3) direct by 203.0.113.30:41641: 3.0 ms"
    answer = {"name": "printer", "address": "100.64.0.9", "path": "tunnel", "latency_ms": 3}
    assert shown.answer(answer) == "printer (100.64.0.9) through the tunnel: 3.0 ms"


def test_a_span_is_told_in_the_unit_that_says_most():
    for seconds, text in ((0, "0 s"), (119.9, "119 s"), (120, "2 min"), (7_200, "2 h"), (180_000, "2 days")):
        assert shown.span(seconds) == text
    assert shown.span(None) == ""


def test_the_network_is_told_in_words_with_its_relays_and_what_the_others_are_told():
    measured = {
        "udp": {"ipv4": udp(2, 2), "ipv6": udp(0, 0)},
        "outside": ["203.0.113.2:41641"],
        "words": ["First sentence.", "Second sentence, " + 20 * "with more " + "words."],
        "relays": [
            {"code": "home", "name": "Home", "home": True, "connected": False, "latency_ms": {"ipv4": 3, "ipv6": None}},
            {"code": "far", "name": "Far", "home": False, "connected": False, "latency_ms": {"ipv4": 21, "ipv6": 20}},
        ],
        "endpoints": [{"endpoint": "192.168.1.2:41641", "from": "an address of this machine"}],
    }
    text = "\n".join(shown.netcheck(measured))
    for part in (
        "UDP over IPv4    gets out: 2 of 2 servers answered",
        "UDP over IPv6    not known: no relay has such an address",
        "seen outside as  203.0.113.2:41641",
        "this network     First sentence.\n                 Second sentence, with more",
        "\n" + 19 * " " + "m",
        "home   Home  3 ms   -      home (not connected)",
        "far    Far   21 ms  20 ms",
        "192.168.1.2:41641   an address of this machine",
    ):
        assert part in text, (part, text)
    assert max([len(line) for line in text.split("\n")]) <= 100


def test_without_relays_and_addresses_the_network_is_told_all_the_same():
    families = {"ipv4": udp(2, 0), "ipv6": udp(2, 0, 2)}
    measured = {"udp": families, "outside": [], "words": [], "relays": [], "endpoints": []}
    text = "\n".join(shown.netcheck(measured))
    assert "IPv4  does not get out: no answer from 2 servers" in text
    assert "IPv6  does not get out: this machine has no way to such addresses" in text
    assert "no relay is known" in text
    assert "told no address" in text


def test_what_is_refused_has_a_line_each_and_not_more_than_fit():
    refused = [{"prefix": f"10.{number}.0.0/16", "node": "thief", "reason": "because"} for number in range(8)]
    lines = shown.summary(status(tunnel={"refused": refused}, denied=["the policy opens more than that"]))
    told = [line for line in lines if line.startswith("refused")]
    assert told[0] == "refused      10.0.0.0/16 of thief: because"
    assert len(told) == 6 and told[5] == "refused      3 more addresses and routes; why: wayhomectl routes"
    assert lines[-1] == "not allowed  the policy opens more than that"


def test_each_setting_is_shown_with_who_set_it():
    settings = [
        {"name": "hostname", "value": "attic", "from": "file"},
        {"name": "snat", "value": "no", "from": "file"},
        {"name": "port", "value": "5", "from": "command line"},
        {"name": "accept-routes", "value": "yes", "from": "up"},
    ]
    lines = shown.summary(status(settings=settings, configuration="/etc/wayhome/wayhomed.conf"))
    assert lines[-3:] == [
        "settings     by /etc/wayhome/wayhomed.conf: hostname = attic; snat = no",
        "             by the command line: port = 5",
        "             by up: accept-routes = yes",
    ]
    assert not [line for line in shown.summary(status()) if line.startswith("settings")]


def test_packets_that_no_honest_node_sends_are_counted_by_reason():
    lines = shown.summary(status(refused_packets={"of a stranger": 12, "by a relay, from nobody we know": 3}))
    assert lines[-1] == "refused      packets: 3 by a relay, from nobody we know; 12 of a stranger"


def test_names_for_the_lan_are_shown_with_the_lines_for_dnsmasq():
    result = status()
    result["lan_dns"] = {"serving": ["192.168.1.2:5353"], "dnsmasq": ["server=/x.internal/127.0.0.1#5353"]}
    text = "\n".join(shown.status(result))
    assert "names        for the LAN at 192.168.1.2:5353\n" in text
    assert "for dnsmasq: server=/x.internal/127.0.0.1#5353" in text
