"""One typed value out of a JSON object from a stranger: its type, its limits, and the path of what is wrong with it.

A reader takes a JSON value and returns ours, or raises Fault. `at`, `list_of` and `read_into` put readers together; on
its way out through them a Fault gathers its path, such as "Peers[3].AllowedIPs[0]".
"""

from wayhomed.core import times
from wayhomed.port import const
from wayhomed.wire.errors import BadWire

# Chosen by us
MAX_TEXT = const(1024)
# Of values that are kept as they come
MAX_PLAIN_DEPTH = const(8)
MAX_PLAIN_ITEMS = const(65_536)

# A server's own integers have 64 bits with a sign; the ids that it gives us stay below 2^53, but that is its business.
_MAX_INTEGER = 9_223_372_036_854_775_807
_MAX_KEY_DIGITS = const(19)


class Fault(Exception):
    """Why a value is refused; the path grows while it climbs out of the message."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason
        self.path = ""


def _under(step: str, error: Fault | BadWire) -> Fault:
    """Return the fault with `step` in front of its path; what a decoder of `wire` refused becomes one."""
    fault = error if isinstance(error, Fault) else Fault(str(error))
    below = fault.path
    fault.path = step + ("." if below and below[0] != "[" else "") + below
    return fault


class Names:
    """The names of an object's members as they are to be written, the useless ones too: those cost no second look."""

    def __init__(self, *names):
        self._known = set(names)
        self._by_lower = {name.lower(): name for name in names}

    def respelled(self, fields: dict) -> dict:
        """Return the fields with the names as we know them: readers of this protocol take them in any case
        (README.md section 8), though hardly a server needs that.
        """
        known = self._known
        odd = [name for name in fields if name not in known]
        for name in odd:
            right = self._by_lower.get(name.lower())
            if right is not None and right not in fields:
                fields[right] = fields.pop(name)
        return fields


def at(step: str, read, value):
    """Return read(value); a Fault or BadWire from it becomes a Fault with `step` in front of its path."""
    try:
        return read(value)
    except (Fault, BadWire) as error:
        raise _under(step, error)


def list_of(read, limit: int):
    """Return a reader of lists with at most `limit` items, each read by `read`."""

    def read_list(value) -> list:
        if not isinstance(value, list):
            raise Fault("a list is due here")
        if len(value) > limit:
            raise Fault("a list of %d, %d are allowed" % (len(value), limit))
        items = []
        for index, item in enumerate(value):
            try:
                items.append(read(item))
            except (Fault, BadWire) as error:
                raise _under("[%d]" % index, error)
        return items

    return read_list


def read_into(record, fields: dict, table: tuple) -> None:
    """Set the record's attributes by a table of (JSON name, attribute, reader); absent and null leave one as it is."""
    for name, attribute, read in table:
        value = fields.get(name)
        if value is None:
            continue
        value = at(name, read, value)
        # A record's defaults stand in its class: what says no more than they takes no memory.
        if getattr(record, attribute) != value:
            setattr(record, attribute, value)


def read_object(value) -> dict:
    if not isinstance(value, dict):
        raise Fault("an object is due here")
    return value


def read_text(value) -> str:
    if not isinstance(value, str):
        raise Fault("a string is due here")
    if len(value) > MAX_TEXT:
        raise Fault("a string of %d characters" % len(value))
    return value


def read_words(value) -> str:
    """Return a text for people; one that is longer than we keep is cut."""
    if not isinstance(value, str):
        raise Fault("a string is due here")
    return value[:MAX_TEXT]


def read_flag(value) -> bool:
    if value is not True and value is not False:
        raise Fault("true or false is due here")
    return value


def read_integer(value) -> int:
    # bool is an int to Python, not to JSON
    if not isinstance(value, int) or value is True or value is False:
        raise Fault("a whole number is due here")
    if value < -_MAX_INTEGER or value > _MAX_INTEGER:
        raise Fault("a number out of range")
    return value


def read_id(value) -> int:
    value = read_integer(value)
    if value <= 0:
        raise Fault("an id is a positive number")
    return value


def read_time(value) -> int:
    """Return seconds since 1970 of an RFC 3339 text. Raises BadWire too, which `at` turns into a Fault."""
    return times.seconds_from_text(read_text(value))


def read_integer_key(text: str) -> int:
    """Read a map's integer key, which JSON writes as a decimal string."""
    if not 0 < len(text) <= _MAX_KEY_DIGITS:
        raise Fault("a decimal key is due here")
    for character in text:
        if character < "0" or character > "9":
            raise Fault("a decimal key is due here")
    return int(text)


def read_plain(value):
    """Return a JSON value that is kept as it came, once it is known to be small and shallow."""
    level, count = [value], 0
    for _depth in range(MAX_PLAIN_DEPTH):
        below = []
        for item in level:
            if isinstance(item, dict):
                item = item.values()
            elif not isinstance(item, list):
                if isinstance(item, str) and len(item) > MAX_TEXT:
                    raise Fault("a string of %d characters" % len(item))
                continue
            below.extend(item)
        count += len(below)
        if count > MAX_PLAIN_ITEMS:
            raise Fault("more than %d values" % MAX_PLAIN_ITEMS)
        if not below:
            return value
        level = below
    raise Fault("nested too deep")
