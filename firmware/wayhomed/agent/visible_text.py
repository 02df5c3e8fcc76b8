"""Text from strangers, made fit for a terminal: what would move its cursor, colour it or turn the writing is spelt out.

Names of nodes, relays and users, and a coordinator's reports, are whatever somebody chose to write.
"""

# What steers the display instead of showing something (Unicode 15.1, general categories Cc, Cf, Cs, Co, Zl and Zp), but
# for the two zero-width joiners 200C and 200D: Persian names and family emoji are written with them.
_HIDDEN = (
    (0x00, 0x1F),
    (0x7F, 0x9F),
    (0xAD, 0xAD),
    (0x600, 0x605),
    (0x61C, 0x61C),
    (0x6DD, 0x6DD),
    (0x70F, 0x70F),
    (0x890, 0x891),
    (0x8E2, 0x8E2),
    (0x180E, 0x180E),
    (0x200B, 0x200B),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xD800, 0xF8FF),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0x10FFFF),
)


def visible(text: str) -> str:
    """Return the text with every hidden character written as its escape: ESC shows as \\x1b, a line break as \\x0a."""
    for letter in text:
        if is_hidden(letter):
            return "".join([_escape(one) if is_hidden(one) else one for one in text])
    return text


def is_hidden(letter: str) -> bool:
    """Tell whether one character steers the display instead of showing something."""
    number = ord(letter)
    if 0x20 <= number < 0x7F:
        return False
    for first, last in _HIDDEN:
        if number <= last:
            return number >= first
    return False


def _escape(letter: str) -> str:
    number = ord(letter)
    if number < 0x100:
        return "\\x%02x" % number
    return "\\u%04x" % number if number < 0x10000 else "\\U%08x" % number
