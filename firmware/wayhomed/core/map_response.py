"""One map response (control.md sections 7.1 and 7.3): from bytes to JSON, and the readers of its parts.

What a part does to what is already known is netmap.py's business.
"""

import json

from wayhomed.core.json_fields import (
    Fault,
    at,
    list_of,
    read_flag,
    read_id,
    read_integer_key,
    read_object,
    read_plain,
    read_text,
)
from wayhomed.core.node import read_node
from wayhomed.port import const
from wayhomed.wire.errors import BadWire

# Chosen by us: far above what a coordinator of ours sends, low enough that a hostile one can't fill a board's memory.
MAX_MESSAGE_BYTES = const(2_097_152)
MAX_JSON_DEPTH = const(64)
MAX_PEERS = const(4096)
MAX_PROFILES = const(8192)
MAX_FILTER_RULES = const(4096)
MAX_HEALTH = const(64)


def decode_response(payload: bytes) -> dict:
    """Return the JSON object of one map message.

    Raises BadWire for anything else, for more than MAX_MESSAGE_BYTES and for nesting deeper than MAX_JSON_DEPTH.
    """
    if len(payload) > MAX_MESSAGE_BYTES:
        raise BadWire("a map message of %d bytes" % len(payload))
    try:
        # CPython guesses UTF-16 and -32 from bytes; the protocol knows UTF-8 alone. MicroPython forgives brackets left
        # open at the end: the 7 then lands in one of them instead of behind the object.
        response = json.loads("[" + str(payload, "utf-8") + ",7]")
    except MemoryError:
        raise BadWire("a map message of %d bytes is more than this machine's memory takes" % len(payload))
    except (ValueError, RuntimeError):  # RuntimeError: nested too deep for the interpreter's own stack
        raise BadWire("a map message is not JSON")
    if len(response) != 2 or response[1] != 7 or not isinstance(response[0], dict):
        raise BadWire("a map message is not a JSON object")
    _limit_depth(response[0])
    return response[0]


def _limit_depth(value) -> None:
    """Refuse deep nesting without recursion: MicroPython's stack is shallow, and others walk the same value later."""
    level = [value]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_JSON_DEPTH:
            raise BadWire("a map message is nested too deep")
        below = []
        for item in level:
            if isinstance(item, dict):
                item = item.values()
            elif not isinstance(item, list):
                continue
            for child in item:
                if isinstance(child, (dict, list)):
                    below.append(child)
        level = below


read_nodes = list_of(read_node, MAX_PEERS)
read_ids = list_of(read_id, MAX_PEERS)
read_patches = list_of(read_object, MAX_PEERS)
read_health = list_of(read_text, MAX_HEALTH)


def _read_profile(value) -> tuple:
    """Return (user id, login name, display name)."""
    fields = read_object(value)
    login, display = fields.get("LoginName"), fields.get("DisplayName")
    return (
        at("ID", read_id, fields.get("ID")),
        "" if login is None else at("LoginName", read_text, login),
        "" if display is None else at("DisplayName", read_text, display),
    )


read_profiles = list_of(_read_profile, MAX_PROFILES)


def _read_rule(value) -> dict:
    return read_plain(read_object(value))


read_rules = list_of(_read_rule, MAX_FILTER_RULES)


def read_flags_by_id(value) -> dict:
    """Return true or false by the peer's id."""
    read_object(value)
    if len(value) > MAX_PEERS:
        raise Fault("%d entries" % len(value))
    return {read_integer_key(key): at(key, read_flag, value[key]) for key in value}


def read_ping_request(value) -> dict:
    """Return a PingRequest (control.md section 9) with URL, URLIsNoise, Types and IP, whatever was left out."""
    fields = read_object(value)
    request = {"URL": "", "URLIsNoise": False, "Types": "", "IP": ""}
    for name, read in (("URL", read_text), ("URLIsNoise", read_flag), ("Types", read_text), ("IP", read_text)):
        if fields.get(name) is not None:
            request[name] = at(name, read, fields[name])
    return request


def read_debug(value) -> tuple:
    """Return (milliseconds to sleep, whether an exit is asked for)."""
    fields = read_object(value)
    sleep = fields.get("SleepSeconds")
    if sleep is None:
        sleep = 0
    if sleep is True or sleep is False or not isinstance(sleep, (int, float)):
        raise Fault("SleepSeconds is a number")
    # The stock client caps the sleep at 300 s too (control.md 7.3). `not >` refuses NaN as well.
    sleep_ms = 0 if not sleep > 0 else int(min(sleep, 300) * 1000)
    return sleep_ms, fields.get("Exit") is not None
