"""Whole networks on one machine: homes, carriers, cafes and their NATs, built from Linux namespaces.

    plan.py        a network described as data; plans/*.toml are those that come along
    nat.py         the kinds of NAT by name, as nftables rules (pure)
    layout.py      plan -> what to tell ip, nft and the kernel for each host (pure)
    keeper.py      the one process that holds a lab's namespaces; when it ends, so does everything in them
    namespaces.py  the few system calls that Python has no door to
    record.py      what is written down below /run about running labs, and how orphans are found
    lab.py         Lab: up, attach, down; host.py: what can be done with one of its hosts
    waiting.py     wait for a real state, with a deadline
    shaping.py     delay, rate and loss as a pure queue; shaper.py carries it between two interfaces
    pairs.py       the plan of two homes behind any two kinds of NAT
    nat_probe.py   measures what a NAT really does, as RFC 4787 names it
    conntrack.py   reads the flows that a router knows
    services.py    the web server of the pretended NAS
    drawing.py     a plan as a picture in the terminal

All of a lab is inside namespaces of its own (network, mount, process, host name): nothing of it shows in the machine's
own network, several labs live beside each other, and no packet has a way out.
"""
