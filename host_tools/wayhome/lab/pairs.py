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


def two_homes(left: str, right: str) -> Plan:
    """Return the plan of two homes with these kinds of NAT (names of nat.KINDS): hosts left, right and coordinator."""
    return plan.parse(f"pair-{left}-{right}", _TEXT.format(left=left, right=right))
