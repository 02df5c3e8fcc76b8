"""RFC 3339 times as the control protocol writes them, and whole seconds since 1970 as we count with them.

The zero time ("0001-01-01T00:00:00Z") means "absent" on the wire (control.md: encoding rules); here it is 0.
"""

from wayhomed.wire.errors import BadWire

_ZERO_YEAR = 1
_DAY_S = 86400


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Return days since 1970-01-01 in the Gregorian calendar.

    Counts years from March, so that the leap day is a year's last one.
    """
    if month <= 2:
        year -= 1
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146097 + day_of_era - 719468


def _civil_from_days(days: int) -> tuple:
    days += 719468
    era = days // 146097
    day_of_era = days - era * 146097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    return year, month, day


def _number(text: str, start: int, end: int) -> int:
    digits = text[start:end]
    # isdigit() alone lets other scripts' digits through under CPython
    for character in digits:
        if character < "0" or character > "9":
            raise BadWire("not a time: " + repr(text[:40]))
    if len(digits) != end - start:
        raise BadWire("not a time: " + repr(text[:40]))
    return int(digits)


def seconds_from_text(text: str) -> int:
    """Return seconds since 1970 of an RFC 3339 time; 0 for the zero time and anything before 1970. Fractions are cut.

    Raises BadWire for any other text.
    """
    if len(text) < 20 or len(text) > 40 or text[4] + text[7] != "--" or text[10] not in "Tt":
        raise BadWire("not a time: " + repr(text[:40]))
    if text[13] + text[16] != "::":
        raise BadWire("not a time: " + repr(text[:40]))
    year, month, day = _number(text, 0, 4), _number(text, 5, 7), _number(text, 8, 10)
    hour, minute, second = _number(text, 11, 13), _number(text, 14, 16), _number(text, 17, 19)
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour <= 23 and minute <= 59 and second <= 60):
        raise BadWire("not a time: " + repr(text[:40]))
    at = 19
    if text[at] == ".":
        at += 1
        while at < len(text) and "0" <= text[at] <= "9":
            at += 1
    zone = text[at:]
    offset_s = 0
    if zone not in ("Z", "z"):
        if len(zone) != 6 or zone[0] not in "+-" or zone[3] != ":":
            raise BadWire("not a time: " + repr(text[:40]))
        offset_s = (_number(zone, 1, 3) * 60 + _number(zone, 4, 6)) * 60
        if zone[0] == "-":
            offset_s = -offset_s
    if year <= _ZERO_YEAR:
        return 0
    seconds = _days_from_civil(year, month, day) * _DAY_S + hour * 3600 + minute * 60 + second - offset_s
    return seconds if seconds > 0 else 0


def civil(seconds: int) -> tuple:
    """Return (year, month, day, hour, minute, second), UTC, of seconds since 1970."""
    year, month, day = _civil_from_days(seconds // _DAY_S)
    rest = seconds % _DAY_S
    return year, month, day, rest // 3600, rest // 60 % 60, rest % 60


def text_from_seconds(seconds: int) -> str:
    """Return the RFC 3339 text in UTC; the zero time for 0."""
    if seconds <= 0:
        return "0001-01-01T00:00:00Z"
    return "%04d-%02d-%02dT%02d:%02d:%02dZ" % civil(seconds)
