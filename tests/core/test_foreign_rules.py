"""What foreign rules do with a packet, tried on rules as the kernel gives them."""

from shared.expect import raises
from wayhomed.core import foreign_programs as programs
from wayhomed.core import foreign_rules as judging
from wayhomed.core.foreign_rules import Chain, Packet, Rule, judge

TUNNEL, LAN, WAN = ("wayhome0", 5), ("lan0", 2), ("wan0", 3)
ACCEPT, DROP = ("verdict", judging.ACCEPT, ""), ("verdict", judging.DROP, "")
ESTABLISHED = [("ct", 0, 1), ("bitwise", 1, 1, b"\x06\0\0\0", bytes(4)), ("cmp", 1, 1, bytes(4))]


def name_is(key, name):
    return [("meta", key, 1), ("cmp", 1, 0, name.encode() + bytes(16 - len(name)))]


def jump(chain):
    return ("verdict", judging.JUMP, chain)


class Table(judging.Rules):
    """chains: {name: [expressions of each rule]}; base: those with a hook."""

    def __init__(self, chains, base, sets=None):
        self._chains = chains
        self._base = base
        self._sets = sets or {}

    def base_chains(self):
        return self._base

    def chain(self, family, table, name):
        return [Rule(number + 1, expressions) for number, expressions in enumerate(self._chains[name])]

    def elements(self, family, table, name):
        return self._sets.get(name)


def one(rules, drops=False, sets=None, **chains):
    chains["forward"] = rules
    return Table(chains, [Chain("inet", "filter", "forward", judging.FORWARD, 0, drops)], sets)


def new():
    return Packet(4, TUNNEL, LAN)


def verdict(rules, packet=None):
    return judge(rules, packet or new(), judging.FORWARD).verdict


def test_an_empty_chain_does_what_its_policy_says():
    assert verdict(one([])) == judging.PASSES
    answer = judge(one([], True), new(), judging.FORWARD)
    assert answer.verdict == judging.DROPPED
    assert answer.blame.words() == "the policy of chain forward of table inet filter"
    assert answer.blame.command() == "nft -a list chain inet filter forward"


def test_what_one_chain_accepts_a_later_one_still_drops():
    chains = {"early": [[ACCEPT]], "late": []}
    base = [
        Chain("ip", "b", "late", judging.FORWARD, 10, True),
        Chain("inet", "a", "early", judging.FORWARD, 0, False),
    ]
    assert judge(Table(chains, base), new(), judging.FORWARD).blame.table == "b"
    assert verdict(Table(chains, base), Packet(16, TUNNEL, LAN)) == judging.PASSES


def test_other_hooks_are_not_asked():
    base = [Chain("inet", "a", "input", judging.INPUT, 0, True)]
    assert verdict(Table({"input": []}, base)) == judging.PASSES


def test_answers_pass_where_new_connections_do_not():
    rules = one([ESTABLISHED + [ACCEPT], [("target", "REJECT")]])
    assert verdict(rules, Packet(4, LAN, TUNNEL, judging.ESTABLISHED)) == judging.PASSES
    answer = judge(rules, new(), judging.FORWARD)
    assert answer.verdict == judging.DROPPED
    assert answer.blame.words() == "rule 2 of chain forward of table inet filter"


def test_interfaces_are_told_by_name_by_index_and_by_how_a_name_begins():
    assert verdict(one([name_is(6, "wayhome0") + name_is(7, "lan0") + [ACCEPT]], True)) == judging.PASSES
    assert verdict(one([name_is(6, "wayhome1") + [ACCEPT]], True)) == judging.DROPPED
    assert verdict(one([[("meta", 6, 1), ("cmp", 1, 0, b"way"), ACCEPT]], True)) == judging.PASSES
    assert verdict(one([[("meta", 6, 1), ("cmp", 1, 1, b"way"), ACCEPT]], True)) == judging.DROPPED


def test_what_is_not_known_leaves_both_ways_open():
    for doubt in (("maybe",), ("match", "limit", 0, b"")):
        answer = judge(one([[doubt, ACCEPT]], True), new(), judging.FORWARD)
        assert answer.verdict == judging.UNKNOWN and answer.blame.handle is None
    assert verdict(one([[("loads", 1, 4), ("cmp", 1, 0, b"1234"), DROP]])) == judging.UNKNOWN
    # not even then can it pass
    assert verdict(one([[("maybe",), DROP]], True)) == judging.DROPPED


def test_jumps_come_back_and_gotos_do_not():
    assert verdict(one([[jump("x")], [ACCEPT]], True, x=[])) == judging.PASSES
    assert verdict(one([[("verdict", judging.GOTO, "x")], [ACCEPT]], True, x=[])) == judging.DROPPED
    assert verdict(one([[jump("x")], [ACCEPT]], True, x=[[("verdict", judging.RETURN, "")], [DROP]])) == judging.PASSES
    assert verdict(one([[jump("x")]], True, x=[[jump("y")]], y=[[ACCEPT]])) == judging.PASSES


def test_sets_maps_and_their_defaults():
    states = {"s": [(b"\x02\0\0\0", b"\x02\0\0\0", (judging.ACCEPT, "")), (b"\x01\0\0\0", b"\x01\0\0\0", (0, ""))]}
    by_state = [[("ct", 0, 1), ("lookup", "s", 1, 0, False)]]
    assert verdict(one(by_state, True, states)) == judging.DROPPED
    assert verdict(one(by_state, True, states), Packet(4, LAN, TUNNEL, judging.ESTABLISHED)) == judging.PASSES
    states["s"].append((None, None, (judging.ACCEPT, "")))
    assert verdict(one(by_state, True, states)) == judging.PASSES
    nets = {"n": [(bytes((192, 168, 1, 0)), bytes((192, 168, 1, 255)), None)]}
    packet = new()
    packet.destination = bytes((192, 168, 1, 10))
    to_net = [("payload", 1, 16, 4, 1), ("lookup", "n", 1, None, False), ACCEPT]
    assert verdict(one([to_net], True, nets), packet) == judging.PASSES
    assert verdict(one([to_net], True, nets)) == judging.UNKNOWN
    assert verdict(one([to_net], True), packet) == judging.UNKNOWN  # a set that was too long
    outside = [("payload", 1, 16, 4, 1), ("lookup", "n", 1, None, True), ACCEPT]
    assert verdict(one([outside], True, nets), packet) == judging.DROPPED


def test_iptables_own_matches_of_states_and_ports():
    info = bytearray(160)
    info[146:152] = b"\x01\0\0\0\x06\0"  # XT_CONNTRACK_STATE, not inverted, ESTABLISHED and RELATED
    known = [("match", "conntrack", 3, bytes(info)), ACCEPT]
    assert verdict(one([known], True)) == judging.DROPPED
    assert verdict(one([known], True), Packet(4, LAN, TUNNEL, judging.ESTABLISHED)) == judging.PASSES
    port = [("match", "udp", 0, b"\0\0\xff\xff\xc9\xa2\xc9\xa2\0"), ACCEPT]  # 41673, in x86's order of bytes
    packet = new()
    packet.protocol, packet.destination_port = 17, 0xA2C9
    assert verdict(one([port], True), packet) == judging.PASSES
    packet.destination_port = 5
    assert verdict(one([port], True), packet) == judging.DROPPED
    packet.protocol = 6
    assert verdict(one([port], True), packet) == judging.DROPPED


def test_rules_without_end_are_given_up():
    raises(judging.TooMany, verdict, one([[jump("x")]], x=[[jump("x")]]))
    raises(judging.TooMany, verdict, one([[("counter",)]] * (judging.MOST_STEPS + 1)))


def test_programs_are_told_by_the_names_that_they_give():
    chains = {("ip", "filter", "FORWARD"), ("ip", "filter", "DOCKER-USER"), ("ip6", "filter", "ufw6-before-forward")}
    for family, table, owner in (
        ("ip", "filter", programs.DOCKER),
        ("ip6", "filter", programs.UFW),
        ("inet", "firewalld", programs.FIREWALLD),
        ("inet", "fw4", programs.FW4),
        ("inet", "filter", programs.NFT),
        ("ip", "mine", programs.NFT),
    ):
        assert programs.owner_of(family, table, chains) == owner
