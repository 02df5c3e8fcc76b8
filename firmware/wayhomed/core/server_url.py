"""The coordinator's URL, as people type it."""

from collections import namedtuple

from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

from .prefixes import is_no_host, is_private

_ALLOWED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:[]%"

# authority: what the Host header says; path: without a slash at its end
ServerUrl = namedtuple("ServerUrl", ("secure", "host", "port", "authority", "path"))


def parse(text: str) -> ServerUrl:
    """Return the parts of "https://mesh.example.net[:port][/path]". Raises BadWire with a text for the user."""
    if text.startswith("https://"):
        secure, rest, port = True, text[8:], 443
    elif text.startswith("http://"):
        secure, rest, port = False, text[7:], 80
    else:
        raise BadWire("a login server begins with https:// (or http://), for example https://mesh.example.net")
    slash = rest.find("/")
    authority, path = (rest, "") if slash < 0 else (rest[:slash], rest[slash:].rstrip("/"))
    for character in path:
        if not "!" <= character <= "~" or character in '?#"<>\\':
            raise BadWire("the login server's path has a character that does not belong there: " + repr(character))
    for character in authority:
        if character not in _ALLOWED:
            raise BadWire("the login server's name has a character that does not belong there: " + repr(character))
    host, port_text = authority, ""
    if authority[:1] == "[":
        end = authority.find("]")
        if end < 0:
            raise BadWire("the login server's IPv6 address has no closing bracket")
        host, rest = authority[1:end], authority[end + 1 :]
        if rest and rest[0] != ":":
            raise BadWire("behind the login server's IPv6 address only :port may follow")
        port_text = rest[1:]
    elif ":" in authority:
        colon = authority.find(":")
        host, port_text = authority[:colon], authority[colon + 1 :]
    if not host or len(host) > 253:
        raise BadWire("the login server has no name, for example https://mesh.example.net")
    if port_text:
        if len(port_text) > 5 or not port_text.isdigit() or not 0 < int(port_text) < 65536:
            raise BadWire("the login server's port is a number from 1 to 65535")
        port = int(port_text)
    return ServerUrl(secure, host, port, authority, path)


def redirected(url: ServerUrl, location: str) -> tuple:
    """Return (url, target) of where an answer from `url` sends us by its Location. Raises BadWire for no place to go.

    From https to http it does not go: nobody would vouch for what is said there.
    """
    if location[:2] == "//":
        location = ("https:" if url.secure else "http:") + location
    if location[:1] == "/":
        location = ("https://" if url.secure else "http://") + url.authority + location
    found, target = with_target(location)
    if url.secure and not found.secure:
        raise BadWire("the coordinator at %s sends us from https to http; we do not go" % url.authority)
    return found, target


def with_target(text: str) -> tuple:
    """Return (url, target) of a URL that may have a query: target is its path with that. Raises BadWire."""
    question = text.find("?")
    query = text[question:] if question >= 0 else ""
    for character in query:
        if not "!" <= character <= "~":
            raise BadWire("a URL's query has a character that does not belong there")
    found = parse(text if question < 0 else text[:question])
    return found, (found.path or "/") + query


def other_way(url: ServerUrl):
    """Return where the coordinator may be reached if not by this URL, or None: the other of plain HTTP on port 80 and
    HTTPS on 443. Its key is known by then, so it does not matter which carries the connection (control.md 2.1).
    """
    authority = "[" + url.host + "]" if ":" in url.host else url.host
    if url.secure:
        return ServerUrl(False, url.host, 80, authority, url.path)
    if url.host == "localhost":
        return None
    try:
        ip = address.ip_from_text(url.host)
    except BadWire:
        pass
    else:
        if is_no_host(ip) or is_private((ip, 8 * len(ip))):
            return None
    return ServerUrl(True, url.host, 443, authority, url.path)


def text_of(url: ServerUrl) -> str:
    """Return the URL in one form, to compare and to show."""
    return ("https://" if url.secure else "http://") + url.authority + url.path
