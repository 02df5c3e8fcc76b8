"""The coordinator's URL, as people type it."""

from collections import namedtuple

from wayhomed.wire.errors import BadWire

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


def text_of(url: ServerUrl) -> str:
    """Return the URL in one form, to compare and to show."""
    return ("https://" if url.secure else "http://") + url.authority + url.path
