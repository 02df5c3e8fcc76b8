"""A peer's path in words: by what it is reached, and why not directly. Pure."""

from wayhomed.core.path import Reason

# What JSON says for each reason, for scripts
REASON_NAMES = {
    Reason.DIRECT: "direct",
    Reason.IDLE: "idle",
    Reason.NO_DISCO_KEY: "no disco key",
    Reason.NO_ADDRESSES: "no addresses",
    Reason.ASKING: "asking",
    Reason.NO_ANSWER: "no answer",
    Reason.LOST: "lost",
}


def why_not_direct(view, netcheck, online=None) -> str:
    """Return why a peer is reached by the relay, "" if it isn't.

    view: core.paths.PathView; netcheck: the newest core.netcheck.Netcheck, or None while nothing was measured; online:
    whether the coordinator says that the peer is connected to it, None if it says nothing.
    """
    if view.reason == Reason.DIRECT:
        return ""
    if view.reason == Reason.IDLE:
        return "idle: no packets for a while; the next one starts the search for a direct path"
    if view.reason == Reason.NO_DISCO_KEY:
        return "it has no disco key, so it can't do direct paths"
    if view.reason == Reason.ASKING:
        return "being tried: %s, %s so far" % (_count(view.candidates, "address"), _count(view.asked, "ping"))
    if view.reason == Reason.NO_ADDRESSES:
        return "it has told no address at which it could be asked" + _cause(netcheck, online)
    if view.reason == Reason.LOST:
        if view.asked <= view.candidates:
            return "the direct path went silent; being tried again"
        return "the direct path went silent; " + _unanswered(view) + " since" + _cause(netcheck, online)
    return _unanswered(view) + _cause(netcheck, online)


def _unanswered(view) -> str:
    return "no answer from its %s to %s" % (_count(view.candidates, "address"), _count(view.asked, "ping"))


def _count(number: int, what: str) -> str:
    if number != 1:
        what += "es" if what.endswith("s") else "s"
    return "%d %s" % (number, what)


def _cause(netcheck, online) -> str:
    """Return what is known that explains silence, as the end of a sentence."""
    if online is False:
        return "; the coordinator says that it is offline"
    if netcheck is None:
        return ""
    if netcheck.asked4 + netcheck.asked6 and not netcheck.udp4 and not netcheck.udp6:
        return "; UDP does not get out of this network"
    if netcheck.mapping_varies:
        # It does work with a router that filters by address alone, or with an open port; few have either.
        return (
            "; this network's NAT gives each destination another port (hard NAT), and the peer's router probably lets "
            "none in that it does not know"
        )
    if netcheck.mapping_varies is False:
        return "; this network's NAT is an easy one, so the hindrance is probably in the peer's network"
    return ""
