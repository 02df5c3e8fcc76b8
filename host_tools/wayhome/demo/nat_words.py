"""What was measured of a NAT, in words for people who have never heard of one."""

from ..lab.nat import Behaviour
from ..lab.nat_probe import Measured

_IN = {
    Behaviour.ENDPOINT_INDEPENDENT: "lets anybody in",
    Behaviour.ADDRESS_DEPENDENT: "lets in who was called",
    Behaviour.ADDRESS_AND_PORT_DEPENDENT: "lets in answers only",
}
_IN_FULL = {
    Behaviour.ENDPOINT_INDEPENDENT: "lets in whoever finds that port",
    Behaviour.ADDRESS_DEPENDENT: "lets in only machines that it called",
    Behaviour.ADDRESS_AND_PORT_DEPENDENT: "lets in only answers to its calls",
}


def short(measured: Measured) -> str:
    """Return what fits into a box of the picture (27 letters at most)."""
    if not measured.udp or measured.filtering is None:
        return "lets no UDP through"
    if measured.mapping is not Behaviour.ENDPOINT_INDEPENDENT:
        return "a new port for each call"
    return _IN[measured.filtering]


def full(measured: Measured) -> str:
    """Return the end of a sentence that begins with the NAT's name."""
    if not measured.udp or measured.filtering is None:
        return "lets no UDP through at all"
    if measured.mapping is Behaviour.ENDPOINT_INDEPENDENT:
        number = "the same number as inside" if measured.ports_preserved else "another number than inside"
        port = f"one port outside ({number}), whomever it calls"
    else:
        port = "another port outside for each machine that it calls"
    return f"gives a program {port}, and {_IN_FULL[measured.filtering]}"
