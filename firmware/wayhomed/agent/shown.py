"""What wayhomectl prints: the local API's answers as lines for people.

Pure: results in, lines out, so that both Pythons' tests can look at them. Every text may come from a stranger and
leaves here visible (agent/visible_text).
"""

import json

from wayhomed.port import const

from .visible_text import visible

_WIDTH = const(80)  # a serial console's
_LABEL = const(13)  # the widest label and what parts it from the text
_REFUSED_LINES = const(5)
_NOT_CONNECTED = " (not connected)"
# Of the peers' table: the first set of these that fits.
_COLUMNS = (
    ("PEER", "ADDRESS", "ONLINE", "PATH", "FOR", "SENT", "RECEIVED"),
    ("PEER", "ADDRESS", "ONLINE", "HOW", "FOR", "SENT", "RECEIVED"),
    ("PEER", "ADDRESS", "ONLINE", "HOW", "FOR"),
    ("PEER",),
)


def summary(result: dict) -> list:
    """Return the lines for this machine: first what is wrong and how to mend it, then how all stands."""
    own, relay = result["self"], result["relay"]
    state, coordinator = result["state"], result["coordinator"]
    if state == "stopped":
        state += " (logged out)" if coordinator["url"] and not coordinator["joined"] else ""
    elif not result["up"]:
        state += " (no packets flow yet)"
    rows: list = []
    for trouble in result.get("troubles", ()):
        _add(rows, "trouble", trouble["what"])
        if trouble["mend"]:
            _add(rows, "", "to mend it: " + trouble["mend"])
    for problem in result["problems"]:
        _add(rows, "problem", problem)
    if result["waiting_for"]:
        _add(rows, "waiting for", result["waiting_for"])
    if result["auth_url"]:
        rows.append(["to let it in", result["auth_url"]])
    rows.append(["state", state])
    if own:
        _add(rows, "name", own["name"])
        _add(rows, "addresses", ", ".join(own["addresses"]))
    _add(rows, "coordinator", (coordinator["url"] or "none") + _connected(coordinator))
    _add(rows, "relay", (relay["code"] or "none") + _connected(relay))
    names = result.get("lan_dns", {})
    if names.get("serving"):
        _add(rows, "names", "for the LAN at " + ", ".join(names["serving"]))
    for line in names.get("dnsmasq", ()):
        rows.append(["", "for dnsmasq: " + line])  # to be copied as it stands
    refused = result["tunnel"].get("refused", [])
    for entry in refused[:_REFUSED_LINES]:
        _add(rows, "refused", "%s of %s: %s" % (entry["prefix"], entry["node"], entry["reason"]))
    if len(refused) > _REFUSED_LINES:
        _add(
            rows,
            "refused",
            "%d more addresses and routes; why: wayhomectl routes" % (len(refused) - _REFUSED_LINES),
        )
    counted = result.get("refused_packets", {})
    if counted:
        texts = ["%d %s" % (counted[reason], reason) for reason in sorted(counted)]
        _add(rows, "refused", "packets: " + "; ".join(texts))
    for sentence in result.get("denied", ()):
        _add(rows, "not allowed", sentence)
    _add_settings(rows, result)
    return _table(rows)


def _add(rows: list, label: str, text: str) -> None:
    """Add a row, in as many lines as it takes."""
    for number, line in enumerate(_wrapped(visible(text), _WIDTH - _LABEL)):
        rows.append(["" if number else label, line])


def _add_settings(rows: list, result: dict) -> None:
    """Add the rows that say who set what."""
    label = "settings"
    for where, who in (("file", result.get("configuration", "")), ("command line", "the command line"), ("up", "up")):
        texts = ["%s = %s" % (one["name"], one["value"]) for one in result.get("settings", ()) if one["from"] == where]
        if texts:
            _add(rows, label, "by " + who + ": " + "; ".join(texts))
            label = ""


def status(result: dict) -> list:
    """Return the summary, and a table of the peers; what is longer than a column stands below its peer."""
    lines = summary(result)
    if not result["peers"]:
        return lines
    lines.append("")
    for columns in _COLUMNS:
        table = _peers(result["peers"], columns)
        if max([len(line) for line in table]) <= _WIDTH:
            break
    return lines + table


def _peers(peers: list, columns: tuple) -> list:
    """Return the lines of a table with these columns; what has none stands below its peer."""
    rows = [list(columns)]
    below: list = [[]]
    for peer in peers:
        online = {True: "yes", False: "no"}.get(peer["online"], "?")
        cells = {
            "PEER": peer["name"],
            "ADDRESS": peer["addresses"][0] if peer["addresses"] else "",
            "ONLINE": "expired" if peer["expired"] else online,
            "PATH": _long_path(peer),
            "HOW": _short_path(peer),
            "FOR": span(peer["since_s"]),
            "SENT": _size(peer.get("sent_bytes")),
            "RECEIVED": _size(peer.get("received_bytes")),
        }
        rows.append([cells[column] for column in columns])
        notes = []
        if "ADDRESS" not in columns:
            held = " for " + cells["FOR"] if cells["FOR"] else ""
            notes.append("%s, online: %s, %s%s" % (cells["ADDRESS"], cells["ONLINE"], cells["HOW"], held))
        if peer["endpoint"] and ("PATH" not in columns or _endpoint_is_long(peer)):
            notes.append("direct by " + peer["endpoint"])
        if "SENT" not in columns and (cells["SENT"] or cells["RECEIVED"]):
            notes.append("sent %s, received %s" % (cells["SENT"], cells["RECEIVED"]))
        if peer["routes"]:
            notes.append("routes: " + ", ".join(peer["routes"]))
        if peer["why"] and peer["reason"] != "idle":
            notes.append("not direct: " + peer["why"])
        below.append(notes)
    lines = []
    for index, line in enumerate(_table(rows)):
        lines.append(line)
        for note in below[index]:
            lines += ["  " + part for part in _wrapped(visible(note), _WIDTH - 2)]
    return lines


def _long_path(peer: dict) -> str:
    """Return the path with its endpoint, unless that alone would be wider than a column may be."""
    return _with_time(peer, "direct" if _endpoint_is_long(peer) else peer["path"])


def _short_path(peer: dict) -> str:
    return _with_time(peer, "direct" if peer["endpoint"] else peer["path"])


def _with_time(peer: dict, text: str) -> str:
    if peer["latency_ms"] is not None:
        text += ", %d ms" % peer["latency_ms"]
    return text + (", idle" if peer["reason"] == "idle" and peer["path"] != "none" else "")


def _endpoint_is_long(peer: dict) -> bool:
    # IPv6: its text alone may have 47 characters, and the table is to fit into 80
    return peer["endpoint"].startswith("[")


def routes(result: dict) -> list:
    rows = [["ROUTE", "WHERE", "STATE"]]
    refused = {(entry["node"], entry["prefix"]): entry["reason"] for entry in result["refused"]}
    for route in result["advertised"]:
        rows.append([route["prefix"], "here", "approved" if route["approved"] else "waits for approval"])
    for device in result["published"]:
        rows.append([device["address"], "here", "published: %s, %s" % (device["name"], device["target"])])
    for route in result["peers"]:
        reason = refused.pop((route["via"], route["prefix"]), "")
        rows.append([route["prefix"], route["via"], _route_state(route, reason, result["accepting"])])
    for (node, prefix), reason in refused.items():
        rows.append([prefix, node, "refused: " + reason])
    if len(rows) == 1:
        return _table(rows) + ["none; offer one with: wayhomectl up --advertise-routes 192.168.1.0/24"]
    return _table(rows)


def _route_state(route: dict, reason: str, accepting: bool) -> str:
    if route["used"]:
        return "in use"
    if reason:
        return "refused: " + reason
    if route["prefix"] in ("0.0.0.0/0", "::/0"):
        return "not used: an exit node, which nobody chose"
    return "not used" if accepting else "not used: see up --accept-routes"


def netcheck(result: dict) -> list:
    """Return what the network lets through, in words; the relays; what the others are told."""
    rows = [
        ["UDP over IPv4", _udp(result["udp"]["ipv4"])],
        ["UDP over IPv6", _udp(result["udp"]["ipv6"])],
    ]
    for endpoint in result["outside"]:
        rows.append(["seen outside as", endpoint])
    for number, sentence in enumerate(result["words"]):
        for line in _wrapped(sentence, _WIDTH - len("seen outside as  ")):
            rows.append(["" if number or line[0] == " " else "this network", line])
    lines = _table(rows) + [""]
    if result["relays"]:
        rows = [["RELAY", "NAME", "IPv4", "IPv6", ""]]
        for relay in result["relays"]:
            home = "home" + ("" if relay["connected"] else _NOT_CONNECTED) if relay["home"] else ""
            latency = relay["latency_ms"]
            rows.append([relay["code"], relay["name"], _latency(latency["ipv4"]), _latency(latency["ipv6"]), home])
        lines += _table(rows)
    else:
        lines.append("no relay is known; the coordinator names them: wayhomectl status")
    lines.append("")
    if not result["endpoints"]:
        return lines + ["the other nodes are told no address of this machine"]
    rows = [["TOLD TO THE OTHERS", "FROM"]]
    for endpoint in result["endpoints"]:
        rows.append([endpoint["endpoint"], endpoint["from"]])
    return lines + _table(rows)


def _udp(family: dict) -> str:
    asked = family["asked"]
    if not asked:
        return "not known: no relay has such an address"
    if family["answered"]:
        return "gets out: %d of %s answered" % (family["answered"], _servers(asked))
    if family["unreachable"] == asked:
        return "does not get out: this machine has no way to such addresses"
    return "does not get out: no answer from %s" % _servers(asked)


def _servers(count: int) -> str:
    return "1 server" if count == 1 else "%d servers" % count


def _latency(latency_ms) -> str:
    return "-" if latency_ms is None else "%d ms" % latency_ms


def answer(result: dict) -> str:
    """Return one answer to a ping."""
    text = "%s (%s) %s: %.1f ms" % (result["name"], result["address"], _by(result["path"]), result["latency_ms"])
    return visible(text)


def changes(before: dict, after: dict, elapsed_s: float) -> list:
    """Return a text for each thing that changed from one status to a later one, elapsed_s seconds apart."""
    texts = []
    if before["state"] != after["state"]:
        texts.append("this machine: %s (was %s)" % (after["state"], before["state"]))
    if before["coordinator"]["connected"] != after["coordinator"]["connected"]:
        texts.append("coordinator:" + _connected(after["coordinator"]).replace("(", "").replace(")", ""))
    old, new = before["relay"], after["relay"]
    if (old["code"], old["connected"]) != (new["code"], new["connected"]):
        texts.append("relay " + (new["code"] or "none") + ":" + _connected(new).replace("(", "").replace(")", ""))
    texts += ["problem: " + problem for problem in after["problems"] if problem not in before["problems"]]
    texts += ["no longer: " + problem for problem in before["problems"] if problem not in after["problems"]]
    known = {peer["id"]: peer for peer in before["peers"]}
    for peer in after["peers"]:
        if peer["id"] not in known:
            texts.append("%s: new, %s" % (peer["name"], _by(peer["path"])))
            continue
        texts += ["%s: %s" % (peer["name"], text) for text in _peer_changes(known.pop(peer["id"]), peer, elapsed_s)]
    texts += ["%s: gone" % peer["name"] for peer in known.values()]
    return [visible(text) for text in texts]


def _peer_changes(before: dict, after: dict, elapsed_s: float) -> list:
    texts = []
    if before["expired"] != after["expired"]:
        texts.append("its key has expired" if after["expired"] else "its key is valid again")
    if before["online"] != after["online"] and after["online"] is not None:
        texts.append("online" if after["online"] else "offline")
    why = ": " + after["why"] if after["why"] else ""
    if before["path"] != after["path"]:
        was = "(was %s for %s)" % (before["path"], span(before["since_s"] + elapsed_s))
        texts.append("%s %s%s" % (_by(after["path"]), was, why))
    elif before["reason"] != after["reason"] and why:
        texts.append(_by(after["path"]) + why)
    return texts


def _by(path: str) -> str:
    """Return a path as it stands in a sentence."""
    if path.startswith("direct "):
        return "direct by " + path[7:]
    return {"none": "by no path", "tunnel": "through the tunnel"}.get(path, "by " + path)


def span(seconds) -> str:
    """Return a duration in the one unit that says most of it, "" for None."""
    if seconds is None:
        return ""
    seconds = int(seconds)
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return "%d %s" % (seconds // length, unit)
    return "%d s" % seconds


def json_text(value) -> str:
    """Return JSON on one line, in which no control character is left as it is."""
    # JSON itself asks for escapes below 0x20 only (RFC 8259 section 7); the others too can steer a terminal.
    text = json.dumps(value)
    if not [c for c in text if "\x7f" <= c < "\xa0"]:
        return text
    return "".join(["\\u%04x" % ord(c) if "\x7f" <= c < "\xa0" else c for c in text])


def _connected(part: dict) -> str:
    return " (connected)" if part["connected"] else _NOT_CONNECTED


def _size(count) -> str:
    if count is None:
        return ""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 10_000 or unit == "GB":
            return "%d %s" % (count, unit)
        count //= 1000
    return ""


def _wrapped(text: str, width: int) -> list:
    """Return the text in lines of at most `width`, broken at spaces; those after the first are set in by two."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "  " + word
        else:
            line = line + " " + word if line else word
    return lines + [line] if line else lines


def _table(rows: list) -> list:
    rows = [[visible(text) for text in row] for row in rows]
    widths = [max([len(row[column]) for row in rows]) for column in range(len(rows[0]))]
    return [
        "  ".join([text + " " * (widths[column] - len(text)) for column, text in enumerate(row)]).rstrip()
        for row in rows
    ]
