"""Two homes behind NATs of given kinds: the plan from which tests of direct paths make their matrix."""

from . import plan
from .plan import Plan

_TEXT = """\
title = "Two homes: one behind {left}, one behind {right}"

[lans.internet]
ipv4 = "203.0.113.0/24"

[lans.left]
ipv4 = "192.168.1.0/24"
gateway = "left-router"

[lans.right]
ipv4 = "192.168.1.0/24"
gateway = "right-router"

[hosts.coordinator]
names = ["wayhome.example"]
links.eth0 = {{ lan = "internet", ipv4 = ["203.0.113.10", "203.0.113.11"] }}

[hosts.left-router]
links.wan = {{ lan = "internet", ipv4 = "203.0.113.30" }}
links.lan = {{ lan = "left", ipv4 = "192.168.1.1" }}
nat = {{ kind = "{left}" }}

[hosts.right-router]
links.wan = {{ lan = "internet", ipv4 = "203.0.113.40" }}
links.lan = {{ lan = "right", ipv4 = "192.168.1.1" }}
nat = {{ kind = "{right}" }}

[hosts.left]
links.eth0 = {{ lan = "left", ipv4 = "192.168.1.10" }}
web = 80

[hosts.right]
links.eth0 = {{ lan = "right", ipv4 = "192.168.1.10" }}
web = 80
"""


# What is added to the plan's lines for IPv6: after which text of a line, and what.
_IPV6 = {
    'ipv4 = "203.0.113.0/24"': '\nipv6 = "2001:db8:0:1::/64"',
    'ipv4 = "192.168.1.0/24"\ngateway = "left-router"': '\nipv6 = "2001:db8:30:1::/64"',
    'ipv4 = "192.168.1.0/24"\ngateway = "right-router"': '\nipv6 = "2001:db8:40:1::/64"',
    '["203.0.113.10", "203.0.113.11"]': ', ipv6 = ["2001:db8:0:1::10", "2001:db8:0:1::11"]',
    '"203.0.113.30"': ', ipv6 = "2001:db8:0:1::30"',
    '"203.0.113.40"': ', ipv6 = "2001:db8:0:1::40"',
    'lan = "left", ipv4 = "192.168.1.1"': ', ipv6 = "2001:db8:30:1::1"',
    'lan = "right", ipv4 = "192.168.1.1"': ', ipv6 = "2001:db8:40:1::1"',
    'lan = "left", ipv4 = "192.168.1.10"': ', ipv6 = "2001:db8:30:1::10"',
    'lan = "right", ipv4 = "192.168.1.10"': ', ipv6 = "2001:db8:40:1::10"',
}


def two_homes(left: str, right: str, *, ipv6: bool = False) -> Plan:
    """Return the plan of two homes with these kinds of NAT (names of nat.KINDS): hosts left, right and coordinator.

    ipv6 adds addresses of that family everywhere, routed and not translated.
    """
    text = _TEXT.format(left=left, right=right)
    for after, more in _IPV6.items() if ipv6 else ():
        text = text.replace(after, after + more)
    return plan.parse(f"pair-{left}-{right}", text)
