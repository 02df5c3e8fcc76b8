"""Why a peer is not reached directly, in words."""

from collections import namedtuple

from wayhomed.agent.path_words import REASON_NAMES, why_not_direct
from wayhomed.core.netcheck import Netcheck
from wayhomed.core.path import Reason

View = namedtuple("View", ("state", "best", "latency_ms", "since_ms", "reason", "candidates", "asked"))


def why(reason, netcheck=None, candidates=4, asked=8):
    return why_not_direct(View(1, None, 0, 0, reason, candidates, asked), netcheck)


def measured(asked=2, answered=2, varies=False):
    netcheck = Netcheck()
    netcheck.asked4, netcheck.answered4, netcheck.mapping_varies = asked, answered, varies
    return netcheck


def test_each_reason_has_its_words():
    for reason, part in (
        (Reason.IDLE, "idle: no packets for a while"),
        (Reason.NO_DISCO_KEY, "no disco key"),
        (Reason.NO_ADDRESSES, "told no address"),
        (Reason.ASKING, "being tried: 4 addresses, 8 pings so far"),
        (Reason.NO_ANSWER, "no answer from its 4 addresses to 8 pings"),
        (Reason.LOST, "the direct path went silent; no answer from its 4 addresses to 8 pings since"),
    ):
        assert part in why(reason), part
        assert REASON_NAMES[reason]
    assert why(Reason.DIRECT) == ""


def test_a_path_that_was_lost_a_moment_ago_is_not_explained_yet():
    assert why(Reason.LOST, measured(varies=True), asked=4) == "the direct path went silent; being tried again"


def test_one_address_and_one_ping_are_told_in_the_singular():
    assert why(Reason.NO_ANSWER, candidates=1, asked=1) == "no answer from its 1 address to 1 ping"


def test_what_this_network_has_to_do_with_it_is_told():
    plain = why(Reason.NO_ANSWER)
    assert why(Reason.NO_ANSWER, measured(varies=None)) == plain
    # A relay map that names no STUN server says nothing about this network.
    assert why(Reason.NO_ANSWER, measured(asked=0, answered=0, varies=None)) == plain
    for reason in (Reason.NO_ANSWER, Reason.LOST, Reason.NO_ADDRESSES):
        assert why(reason, measured(answered=0, varies=None)).endswith("; UDP does not get out of this network")
        assert "another port (hard NAT)" in why(reason, measured(varies=True))
        assert why(reason, measured(varies=False)).endswith("probably in the peer's network")


def test_a_peer_that_is_offline_needs_no_other_explanation():
    view = View(1, None, 0, 0, Reason.NO_ANSWER, 4, 8)
    text = why_not_direct(view, measured(varies=True), False)
    assert text == "no answer from its 4 addresses to 8 pings; the coordinator says that it is offline"
    assert why_not_direct(view, measured(varies=None), True) == why(Reason.NO_ANSWER)
