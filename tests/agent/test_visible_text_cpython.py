"""Against Python's own table of characters, which the shared code can't use."""

import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from wayhomed.agent.visible_text import is_hidden, visible


def test_all_that_unicode_calls_control_format_private_or_a_line_break_is_hidden_but_the_joiners():
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        hidden = unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} and letter not in "\u200c\u200d"
        # A character that no table knows yet may be hidden or not.
        if unicodedata.category(letter) != "Cn":
            assert is_hidden(letter) == hidden or number >= 0xE0000, hex(number)


@given(st.text())
def test_what_comes_out_can_be_printed_and_shows_as_it_is(text):
    shown = visible(text)
    assert not any(is_hidden(letter) for letter in shown)
    shown.encode()
