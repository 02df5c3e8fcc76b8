"""Text from strangers, made fit to be shown: what would move a cursor, colour or turn the writing is spelt out."""

import unicodedata

# Other (control, format, surrogate, private use, unassigned) and the two line breaks that are not control characters.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Zero-width joiner and non-joiner are format characters too, but Persian names and family emoji are written with them.
_JOINERS = "\u200c\u200d"


def visible(text: str) -> str:
    """Return text with every hidden character written as its escape: a right-to-left override shows as `\\u202e`.

    Terminal escape sequences, forged line breaks and bidirectional overrides (which make `gpj.exe` read as `exe.jpg`)
    are then harmless wherever the text is printed. Markup is not touched: that is for the page or table that prints it.
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(_escape(letter) if is_hidden(letter) else letter for letter in text)


def is_hidden(letter: str) -> bool:
    """Tell whether one character steers the display instead of showing something."""
    return letter not in _JOINERS and unicodedata.category(letter) in _HIDDEN_CATEGORIES


def _escape(letter: str) -> str:
    number = ord(letter)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
