"""The netmap by difference: what each field of a map response does, and what it may not do."""

import json

from shared.expect import raises
from shared.map_message import described, kept, take
from wayhomed.core.derp_map import MAX_REGIONS
from wayhomed.core.json_fields import MAX_PLAIN_ITEMS
from wayhomed.core.map_response import MAX_FILTER_RULES, MAX_FILTERS, MAX_PEERS, ResponseReader, read_response
from wayhomed.core.netmap import Netmap
from wayhomed.core.node import MAX_ENDPOINTS, MAX_ENDPOINTS_READ, MAX_HOSTNAME, MAX_PREFIXES
from wayhomed.core.published import KEY
from wayhomed.wire.errors import BadWire


def key(prefix, number):
    return f"{prefix}:{number:064x}"


def node(node_id, **fields):
    made = {
        "ID": node_id,
        "StableID": f"n{node_id}",
        "Name": f"node-{node_id}.tail.example.",
        "User": 7,
        "Key": key("nodekey", node_id),
        "DiscoKey": key("discokey", 1000 + node_id),
        "Addresses": [f"100.64.0.{node_id}/32", f"fd7a:115c:a1e0::{node_id:x}/128"],
        "AllowedIPs": [f"100.64.0.{node_id}/32", f"fd7a:115c:a1e0::{node_id:x}/128"],
        "HomeDERP": 900,
        "Hostinfo": {"Hostname": f"host-{node_id}", "OS": "linux"},
        "Cap": 120,
        "Online": True,
        "MachineAuthorized": True,
    }
    made.update(fields)
    return made


RELAYS = {
    "Regions": {
        "900": {
            "RegionID": 900,
            "RegionCode": "home",
            "RegionName": "Home",
            "Nodes": [{"Name": "900a", "RegionID": 900, "HostName": "relay.example", "IPv4": "203.0.113.10"}],
        }
    }
}


def first(**fields):
    response = {
        "Node": node(1),
        "DERPMap": RELAYS,
        "Peers": [node(2), node(3)],
        "Domain": "example.net",
        "PacketFilters": {"base": [{"SrcIPs": ["*"], "DstPorts": []}]},
        "DNSConfig": {"Domains": ["tail.example"]},
        "UserProfiles": [{"ID": 7, "LoginName": "anna@example.org", "DisplayName": "Anna"}],
    }
    response.update(fields)
    return response


def started(**fields):
    made = Netmap()
    take(made, first(**fields))
    return made


def test_the_first_response_fills_the_netmap():
    made = Netmap()
    difference = take(made, first())
    assert difference.first
    assert difference.anything()
    assert made.node.id == 1
    assert made.node.addresses[0] == (b"\x64\x40\x00\x01", 32)
    assert sorted(made.peers) == [2, 3]
    assert made.peers[2].hostname == "host-2"
    assert made.derp_map.regions[900].nodes[0].host_name == "relay.example"
    assert made.profiles[7] == ("anna@example.org", "Anna")
    assert made.filter_rules() == [{"SrcIPs": ["*"], "DstPorts": []}]
    assert made.domain == "example.net"
    assert made.dns == {"Domains": ["tail.example"]}


def test_a_first_response_without_node_is_refused():
    made = Netmap()
    response = first()
    del response["Node"]
    raises(BadWire, take, made, response)
    assert made.node is None
    take(made, first())
    assert made.node.id == 1


def test_a_keep_alive_changes_nothing_and_is_not_the_first():
    made = Netmap()
    difference = take(made, {"KeepAlive": True, "Peers": [node(2)], "ControlTime": "2026-11-23T02:00:00Z"})
    assert difference.keep_alive
    assert difference.control_time_s == 1795399200
    assert not difference.anything()
    assert made.peers == {}
    take(made, first())
    assert made.node.id == 1


def test_absent_null_and_unknown_fields_change_nothing():
    made = started()
    difference = take(made, {"Peers": None, "DNSConfig": None, "PacketFilter": None, "Future": {"x": [1]}})
    assert not difference.anything()
    assert sorted(made.peers) == [2, 3]
    assert len(made.filter_rules()) == 1


def test_an_empty_list_of_peers_says_nothing():
    made = started()
    assert not take(made, {"Peers": []}).anything()
    assert sorted(made.peers) == [2, 3]


def test_a_list_of_peers_is_complete_and_overrules_the_delta_fields():
    made = started()
    difference = take(made, {"Peers": [node(3), node(4)], "PeersRemoved": [3], "PeersChanged": [node(9)]})
    assert sorted(made.peers) == [3, 4]
    assert difference.peers_removed == [2]


def test_peers_are_removed_changed_and_added_by_id():
    made = started()
    difference = take(made, {"PeersRemoved": [2, 77], "PeersChanged": [node(3, Name="new.tail.example."), node(5)]})
    assert sorted(made.peers) == [3, 5]
    assert made.peers[3].name == "new.tail.example."
    assert difference.peers_removed == [2]
    assert difference.peers_changed == [3, 5]


def test_a_patch_touches_only_what_it_names():
    made = started()
    take(
        made,
        {
            "PeersChangedPatch": [
                {"NodeID": 2, "DERPRegion": 5, "Endpoints": ["192.0.2.44:51820"], "Online": False},
                {"NodeID": 3, "Key": key("nodekey", 33), "LastSeen": "2026-11-23T02:00:00Z", "Name": "ignored"},
                {"NodeID": 99, "Online": True},
            ]
        },
    )
    assert made.peers[2].home_derp == 5
    assert made.peers[2].endpoints == ((b"\xc0\x00\x02\x2c", 51820),)
    assert made.peers[2].online is False
    assert made.peers[2].hostname == "host-2"
    assert made.peers[3].key[-1] == 33
    assert made.peers[3].last_seen_s == 1795399200
    assert made.peers[3].name == "node-3.tail.example."
    assert sorted(made.peers) == [2, 3]


def test_an_empty_list_in_a_patch_empties_and_an_absent_one_keeps():
    made = started(Peers=[node(2, Endpoints=["192.0.2.1:1"])])
    take(made, {"PeersChangedPatch": [{"NodeID": 2, "Online": True}]})
    assert len(made.peers[2].endpoints) == 1
    take(made, {"PeersChangedPatch": [{"NodeID": 2, "Endpoints": []}]})
    assert made.peers[2].endpoints == ()


def test_a_zero_region_in_a_patch_counts_as_absent():
    made = started()
    take(made, {"PeersChangedPatch": [{"NodeID": 2, "DERPRegion": 0}]})
    assert made.peers[2].home_derp == 900


def test_the_old_online_and_seen_fields_work():
    made = started()
    take(made, {"OnlineChange": {"2": False}, "PeerSeenChange": {"3": True, "2": False}}, 1234)
    assert made.peers[2].online is False
    assert made.peers[3].last_seen_s == 1234
    assert made.peers[2].last_seen_s == 0


def test_an_expired_peer_stays_expired_until_its_key_changes():
    made = started(Peers=[node(2, Expired=True)])
    take(made, {"PeersChanged": [node(2, Expired=False)]})
    assert made.peers[2].is_expired(0)
    take(made, {"PeersChanged": [node(2, Key=key("nodekey", 222))]})
    assert not made.peers[2].is_expired(0)


def test_expiry_by_time_needs_a_clock():
    made = started(Peers=[node(2, KeyExpiry="2026-01-01T00:00:00Z")])
    assert made.peers[2].is_expired(1795399200)
    assert not made.peers[2].is_expired(0)


def test_an_absent_filter_stays_and_an_empty_one_blocks_everything():
    made = started()
    take(made, {})
    assert len(made.filter_rules()) == 1
    take(made, {"PacketFilter": []})
    assert made.filter_rules() == []
    assert made.filters == {"base": []}


def test_named_filters_are_set_deleted_and_cleared():
    made = started()
    take(made, {"PacketFilters": {"extra": [{"SrcIPs": ["a"]}]}})
    assert len(made.filter_rules()) == 2
    take(made, {"PacketFilters": {"base": None}})
    assert made.filter_rules() == [{"SrcIPs": ["a"]}]
    take(made, {"PacketFilters": {"*": None, "only": []}})
    assert made.filters == {"only": []}


def test_regions_that_are_absent_stay_and_null_regions_drop():
    made = started()
    take(made, {"DERPMap": {"HomeParams": {"RegionScore": {"900": 0.5}}}})
    assert 900 in made.derp_map.regions
    assert made.derp_map.scores_per_mille == {900: 500}
    take(made, {"DERPMap": {"Regions": {"900": None, "901": {"RegionID": 901, "Nodes": []}}}})
    assert list(made.derp_map.regions) == [901]
    assert made.derp_map.scores_per_mille == {900: 500}


def test_dns_is_replaced_whole():
    made = started()
    take(made, {"DNSConfig": {}})
    assert made.dns == {}


def test_a_published_device_is_found_by_its_name_in_the_dns_records():
    netmap = Netmap()
    records = [
        {"Name": "nas.tail.example", "Value": "fd7a:115c:a1e0::9"},
        {"Name": "NAS.tail.example.", "Value": "100.64.0.9"},
        {"Name": "printer.tail.example", "Value": "no address"},
    ]
    take(netmap, first(DNSConfig={"ExtraRecords": records}))
    assert netmap.published_ipv4("nas") == netmap.published_ipv4("Nas.tail.example.") == bytes((100, 64, 0, 9))
    assert netmap.published_ipv4("printer") is None and netmap.published_ipv4("tail") is None


def test_dns_records_of_wrong_types_name_nothing():
    for records in (None, "nas", {"nas": 1}, [None, 3, [], {}, {"Name": 1, "Value": 2}, {"Name": "nas"}]):
        netmap = Netmap()
        take(netmap, first(DNSConfig={"ExtraRecords": records}))
        assert netmap.published_ipv4("nas") is None


def test_profiles_are_merged_and_never_removed():
    made = started()
    take(made, {"UserProfiles": [{"ID": 8, "LoginName": "ben"}]})
    assert made.profiles == {7: ("anna@example.org", "Anna"), 8: ("ben", "")}


def test_allowed_ips_that_are_null_mean_the_addresses_and_empty_ones_nothing():
    made = started(Peers=[node(2, AllowedIPs=None), node(3, AllowedIPs=[])])
    assert made.peers[2].allowed_ips == made.peers[2].addresses
    assert made.peers[3].allowed_ips == ()


def test_the_legacy_home_relay_is_read():
    made = started(Peers=[node(2, HomeDERP=0, DERP="127.3.3.40:5"), node(3, DERP="127.3.3.40:5")])
    assert made.peers[2].home_derp == 5
    assert made.peers[3].home_derp == 900


def test_a_new_stream_starts_from_nothing_but_the_old_netmap_serves_until_then():
    made = started()
    made.new_stream()
    assert sorted(made.peers) == [2, 3]
    raises(BadWire, take, made, {"Peers": [node(4)]})
    assert sorted(made.peers) == [2, 3]
    difference = take(made, {"Node": node(1)})
    assert made.peers == {}
    assert sorted(difference.peers_removed) == [2, 3]
    assert made.filter_rules() == []
    # our only way out is no victim of a careless coordinator
    assert 900 in made.derp_map.regions


def test_a_fault_names_its_path_and_the_old_netmap_stays():
    for fields, path in (
        ({"Node": []}, "Node: "),
        ({"Node": node(1, HomeDERP="5")}, "Node.HomeDERP: "),
        ({"Node": node(1, HomeDERP=True)}, "Node.HomeDERP: "),
        ({"Node": node(1, Key="nodekey:xx")}, "Node.Key: "),
        ({"Node": node(1, Key=key("nodekey", 0))}, "Node.Key: "),
        ({"Node": node(0)}, "Node.ID: "),
        ({"Node": node(1, Addresses=["100.64.0.1/99"])}, "Node.Addresses[0]: "),
        ({"Node": node(1, Hostinfo={"OS": 5})}, "Node.Hostinfo.OS: "),
        ({"Peers": {}}, "Peers: "),
        ({"Peers": [node(2), 5]}, "Peers[1]: "),
        ({"Peers": [node(2), node(3, AllowedIPs=["x"])]}, "Peers[1].AllowedIPs[0]: "),
        ({"Peers": [node(2), node(2)]}, "the response: "),
        ({"PeersChanged": [node(2, Online="yes")]}, "PeersChanged[0].Online: "),
        ({"PeersChanged": [node(2, CapMap={KEY: 5})]}, "PeersChanged[0].CapMap." + KEY),
        ({"PeersRemoved": ["2"]}, "PeersRemoved[0]: "),
        ({"PeersRemoved": [True]}, "PeersRemoved[0]: "),
        ({"PeersChangedPatch": [{"NodeID": 77, "Endpoints": 5}]}, "PeersChangedPatch[0].Endpoints: "),
        ({"PeersChangedPatch": [{}]}, "PeersChangedPatch[0].NodeID: "),
        ({"OnlineChange": {"x": True}}, "OnlineChange: "),
        ({"DERPMap": {"Regions": []}}, "DERPMap.Regions: "),
        ({"PacketFilter": [[]]}, "PacketFilter[0]: "),
        ({"PacketFilters": {"base": {}}}, "PacketFilters.base: "),
        ({"DNSConfig": "x"}, "DNSConfig: "),
        ({"UserProfiles": [5]}, "UserProfiles[0]: "),
        ({"KeepAlive": 1}, "KeepAlive: "),
        ({"ControlTime": "now"}, "ControlTime: "),
        ({"Debug": {"SleepSeconds": "5"}}, "Debug: "),
        ({"PingRequest": {"URL": 5}}, "PingRequest.URL: "),
        ({"Domain": "x" * 5000}, "Domain: "),
        ({"Health": ["x"] * 1000}, "Health[64]: "),
    ):
        made = started()
        before = described(made)
        change = {"PeersRemoved": [3], "Domain": "new.example"}
        change.update(fields)
        error = raises(BadWire, take, made, change)
        assert str(error).startswith(path), (str(error), path)
        assert described(made) == before, path


NO_ENDPOINTS = (
    "nonsense", "", "1.2.3.4", "1.2.3.4:x", "1.2.3.4:70000", "[::1]", "2001:db8::1:9", "x" * 5000, 5, None, [], {},
    "0.0.0.0:1", "127.0.0.1:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1", "[::1]:1", "[ff02::1]:1", "[fe80::1]:1",
    "[::ffff:192.0.2.1]:1", "192.0.2.1:0",
)  # fmt: skip


def test_one_peers_useless_endpoints_are_skipped_and_all_peers_stay():
    for bad in NO_ENDPOINTS:
        made = started(Peers=[node(2, Endpoints=[bad, "192.0.2.1:1", bad, "[2001:db8::1]:9"]), node(3)])
        assert sorted(made.peers) == [2, 3]
        assert made.peers[2].endpoints == ((b"\xc0\x00\x02\x01", 1), (b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01", 9))
        take(made, {"PeersChangedPatch": [{"NodeID": 3, "Endpoints": [bad, "192.0.2.1:1"]}]})
        assert made.peers[3].endpoints == ((b"\xc0\x00\x02\x01", 1),)


def test_of_a_thousand_endpoints_the_first_usable_ones_are_kept():
    crowd = [f"10.0.{i >> 8}.{i & 255}:41641" for i in range(1000)]
    made = started(Peers=[node(2, Endpoints=["127.0.0.1:1"] * 100 + crowd), node(3)])
    assert made.peers[2].endpoints == tuple((bytes((10, 0, 0, i)), 41641) for i in range(MAX_ENDPOINTS))
    take(made, {"PeersChangedPatch": [{"NodeID": 3, "Endpoints": crowd}]})
    assert made.peers[3].endpoints == made.peers[2].endpoints


def test_an_endpoint_named_again_and_again_takes_one_place():
    made = started(Peers=[node(2, Endpoints=["192.0.2.1:1"] * 1000 + ["192.0.2.2:2"])])
    assert made.peers[2].endpoints == ((b"\xc0\x00\x02\x01", 1), (b"\xc0\x00\x02\x02", 2))


def test_of_an_endless_list_of_endpoints_the_end_is_not_looked_at():
    made = started(Peers=[node(2, Endpoints=["x"] * MAX_ENDPOINTS_READ + ["192.0.2.2:2"])])
    assert made.peers[2].endpoints == ()


def test_a_private_endpoint_and_a_carriers_are_kept():
    texts = ["192.168.1.2:1", "10.1.1.1:2", "172.16.5.5:3", "100.64.200.1:4", "[fd00::5]:5"]
    assert started(Peers=[node(2, Endpoints=texts)]).peers[2].as_json()["Endpoints"] == texts


def test_a_peers_home_region_or_name_that_cannot_be_takes_no_other_peer_away():
    for region in (-1, 65_536, 2**60):
        made = started(Peers=[node(2, HomeDERP=region), node(3)])
        assert made.peers[2].home_derp == 0
        take(made, {"PeersChangedPatch": [{"NodeID": 3, "DERPRegion": region}]})
        assert made.peers[3].home_derp == 900
    assert started(Peers=[node(2, HomeDERP=0, DERP="127.3.3.40:99999")]).peers[2].home_derp == 0
    long = started(Peers=[node(2, Hostinfo={"Hostname": "x" * 5000, "OS": "y" * 5000})]).peers[2]
    assert long.hostname == "x" * MAX_HOSTNAME
    assert long.os == "y" * MAX_HOSTNAME


def test_what_is_too_much_is_refused():
    made = started()
    for fields in (
        {"PeersChanged": [node(2, AllowedIPs=["192.0.2.1/32"] * (MAX_PREFIXES + 1))]},
        {"PeersRemoved": [1] * (MAX_PEERS + 1)},
        {"PacketFilter": [{}] * (MAX_FILTER_RULES + 1)},
        {"PacketFilters": {str(name): [] for name in range(MAX_FILTERS + 1)}},
        {"DERPMap": {"Regions": {str(i): {"RegionID": i} for i in range(1, MAX_REGIONS + 2)}}},
        {"DNSConfig": {"a": [[[[[[[[[[1]]]]]]]]]]}},
        {"DNSConfig": {"a": [0] * (MAX_PLAIN_ITEMS + 1)}},
        {"Node": node(2**63)},
    ):
        raises(BadWire, take, made, fields)
    assert sorted(made.peers) == [2, 3]


def test_one_time_requests_come_with_the_difference():
    made = started()
    difference = take(made, {"PingRequest": {"URL": "https://x/machine/ping/1", "URLIsNoise": True, "Log": True}})
    assert difference.ping_request["URL"] == "https://x/machine/ping/1"
    assert difference.ping_request["URLIsNoise"] is True
    assert not difference.anything()
    assert take(made, {"Debug": {"SleepSeconds": 10_000, "Exit": 3}}).sleep_ms == 300_000
    assert take(made, {"Debug": {"SleepSeconds": 0.5}}).sleep_ms == 500
    assert take(made, {"Debug": {"Exit": 3}}).exit_asked
    assert take(made, {"Debug": {"DisableLogTail": True}}).sleep_ms == 0


def test_what_is_kept_on_disk_reads_back_the_same():
    made = started(
        Peers=[
            node(
                2,
                Endpoints=["192.0.2.1:1", "[2001:db8::1]:2"],
                KeyExpiry="2027-05-01T00:00:00Z",
                Expired=True,
                Tags=["tag:router"],
                CapMap={"a": [{"b": 1}], "c": None},
                PrimaryRoutes=["192.168.1.0/24"],
            )
        ],
    )
    text = kept(made)
    again = Netmap()
    again.apply(read_response(text))
    assert kept(again) == text
    assert again.peers[2].cap_map == {"a": (), "c": ()}
    assert again.peers[2].expired


def test_a_message_that_is_no_json_object_is_refused():
    for payload in (
        b"",
        b"{",
        b'{"a":{}',
        b"{},{}",
        b"{}]",
        b"[]",
        b"5",
        b"null",
        b"\xff\xfe",
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ):
        raises(BadWire, read_response, payload)
    raises(BadWire, read_response, b"[" * 100_000)
    assert read_response(b'{"KeepAlive":true}').keep_alive


def test_names_of_fields_count_in_any_case():
    made = Netmap()
    odd = {"id": 2, "KEY": key("nodekey", 2), "addresses": ["100.64.0.2/32"], "hostInfo": {"hostName": "nas"}}
    rule = {"srcIPs": ["*"], "dstPorts": [{"ip": "*", "ports": {"first": 1, "last": 2}}]}
    take(
        made, {"node": node(1), "peers": [odd], "packetFilter": [rule], "derpMap": {"regions": {"9": {"regionID": 9}}}}
    )
    assert made.peers[2].hostname == "nas"
    assert made.peers[2].allowed_ips == ((bytes((100, 64, 0, 2)), 32),)
    assert made.filter_rules() == [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 1, "Last": 2}}]}]
    assert list(made.derp_map.regions) == [9]


def test_fields_that_we_do_not_know_are_passed_over_however_large():
    made = Netmap()
    fields = first()
    fields["SSHPolicy"] = {"rules": [{"a": "]}" * 2000}] * 200}
    take(made, fields)
    assert sorted(made.peers) == [2, 3]


def test_relays_and_regions_that_can_not_be_used_are_left_out_and_told():
    good = {"Name": "1a", "RegionID": 1, "HostName": "a.example"}
    regions = {
        "1": {"RegionID": 1, "Nodes": [{"IPv4": "x"}, good, 5]},
        "2": {"RegionID": 3},
        "70000": {"RegionID": 70000},
        "x": {"RegionID": 4},
        "5": {"RegionID": 5, "Nodes": {}},
        "6": [],
        "7": {"Nodes": []},
    }
    made = started()
    difference = take(made, {"DERPMap": {"Regions": regions}})
    assert sorted(made.derp_map.regions) == [1, 7]
    assert [made_node.host_name for made_node in made.derp_map.regions[1].nodes] == ["a.example"]
    assert len(difference.left_out) == 7, difference.left_out
    assert [text for text in difference.left_out if "IPv4" in text]


def test_a_region_to_be_avoided_is_no_home_unless_all_are():
    made = started(DERPMap={"Regions": {"1": {"RegionID": 1, "Avoid": True}, "2": {"RegionID": 2}}})
    assert [made.derp_map.regions[i].no_measure_no_home for i in (1, 2)] == [True, False]
    made = started(DERPMap={"Regions": {"1": {"Avoid": True}, "2": {"NoMeasureNoHome": True}}})
    assert [made.derp_map.regions[i].no_measure_no_home for i in (1, 2)] == [False, True]


def test_messages_for_the_owner_are_set_taken_back_and_cleared():
    made = started(Health=["old form"])
    assert made.warnings() == ["old form"]
    take(made, {"Health": []})
    take(
        made, {"DisplayMessages": {"b": {"Title": "Hot", "Text": "42 degrees", "Severity": "low"}, "a": {"title": "X"}}}
    )
    assert made.warnings() == ["X", "Hot: 42 degrees"]
    take(made, {"DisplayMessages": {"b": None}})
    assert made.warnings() == ["X"]
    take(made, {"DisplayMessages": {"*": None, "c": {"Text": "new"}}})
    assert made.warnings() == ["new"]


def test_what_only_grants_something_to_applications_opens_nothing_and_is_not_kept():
    deep = {"Dsts": ["*"], "CapMap": {"cap": [{"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": ["x" * 3000]}}}}}}}}]}}
    made = started(PacketFilter=[{"SrcIPs": ["*"], "CapGrant": [deep]}, {"SrcIPs": ["1.2.3.4"]}], PacketFilters=None)
    assert made.filter_rules() == [{"SrcIPs": ["1.2.3.4"]}]


def test_a_peer_that_is_told_again_as_it_was_is_no_change_and_takes_no_new_memory():
    made = started()
    before = made.peers[2]
    made.new_stream()
    difference = take(made, first(Peers=[node(2), node(3, Endpoints=["192.0.2.1:1"])]))
    assert difference.peers_changed == [3]
    assert made.peers[2] is before
    assert not take(made, {"PeersChanged": [node(2)]}).anything()
    assert take(made, {"PeersRemoved": [2], "PeersChanged": [node(2)]}).peers_changed == [2]


def test_a_new_stream_may_say_that_a_key_is_no_longer_expired():
    made = started(Peers=[node(2, Expired=True)])
    made.new_stream()
    take(made, first(Peers=[node(2)]))
    assert not made.peers[2].is_expired(0)


def test_only_what_lasts_is_worth_the_disk():
    made = started()
    assert not take(made, {"PeersChangedPatch": [{"NodeID": 2, "Online": False}]}).lasting
    assert not take(made, {"OnlineChange": {"2": True}, "PeerSeenChange": {"2": True}}).lasting
    assert take(made, {"PeersChangedPatch": [{"NodeID": 2, "Endpoints": []}]}).lasting
    assert take(made, {"PeersRemoved": [2]}).lasting


def test_ids_of_64_bits_are_taken():
    big = 9_007_199_254_740_993
    made = started(Peers=[node(2, ID=big, User=-(2**62))])
    take(made, {"PeersChangedPatch": [{"NodeID": big, "Online": False}], "OnlineChange": {str(2**63 - 1): True}})
    assert made.peers[big].online is False
    assert made.peers[big].user == -(2**62)


def test_a_list_that_is_null_is_absent_everywhere():
    made = started(
        Peers=[node(2, Endpoints=None, Tags=None, PrimaryRoutes=None, CapMap=None, Hostinfo=None, KeyExpiry=None)],
        DNSConfig=None,
        Health=None,
        UserProfiles=None,
        PeersRemoved=None,
        PeersChangedPatch=None,
        PeerSeenChange=None,
        OnlineChange=None,
        SSHPolicy=None,
        PingRequest=None,
        Debug=None,
        DisplayMessages=None,
        ControlTime=None,
    )
    assert made.peers[2].endpoints == () and made.peers[2].key_expiry_s == 0
    assert started(Peers=[node(2, KeyExpiry="0001-01-01T00:00:00Z")]).peers[2].key_expiry_s == 0


def test_it_reads_the_same_however_the_bytes_were_cut():
    text = json.dumps(first(Peers=[node(2, Name='a"b\\\\]}', Hostinfo={"Hostname": "\u00e4"}), node(3)])).encode()
    whole = started(Peers=[node(2, Name='a"b\\\\]}', Hostinfo={"Hostname": "\u00e4"}), node(3)])
    for size in (1, 2, 3, 5, 7, 50, 333):
        reader = ResponseReader()
        for at in range(0, len(text), size):
            reader.feed(text[at : at + size])
        made = Netmap()
        made.apply(reader.close())
        assert described(made) == described(whole), size
