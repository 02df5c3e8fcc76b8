"""What a relay carries: WireGuard, disco, and the greeting of tailcat; nothing else.

A relay that carried anything would be a free tunnel for whoever has a key. The kinds are told apart by their first
bytes and lengths; what is inside is sealed for others.
"""

from wayhomed.wire import disco, wireguard
from wayhomed.wire.keys import KEY_BYTES

# As derp.md section 4 has it: the magic, and room for the sender's key and the nonce.
_DISCO_LEAST_BYTES = 62
# tailcat, the official tool that works without a coordinator, has no netmap to learn disco keys from. Its first packet
# to a peer says them: these 5 bytes, the sender's node key, its disco key. The answer says that they have come. Seen
# from version 1.103-pre.
_GREETING = b"meow\x01"
_GREETING_BYTES = len(_GREETING) + 2 * KEY_BYTES
_GREETING_ANSWER = b"meow\x02"


def is_disco(packet: bytes) -> bool:
    return packet.startswith(disco.MAGIC) and len(packet) >= _DISCO_LEAST_BYTES


def is_carried(packet: bytes, sender: bytes) -> bool:
    """Tell whether a packet that is not disco may pass; `sender` is the node key of the connection it came on."""
    return wireguard.classify(packet) != wireguard.NOT_WIREGUARD or is_greeting(packet, sender)


def is_greeting(packet: bytes, sender: bytes) -> bool:
    """Tell whether this is tailcat's greeting in the sender's own name, or the answer to one."""
    if len(packet) == _GREETING_BYTES:
        return packet.startswith(_GREETING + sender)
    return packet == _GREETING_ANSWER
