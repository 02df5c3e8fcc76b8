"""Strangers' text on a terminal or a page: nothing in it steers, everything in it shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhome.visible_text import is_hidden, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("annas-phone", "annas-phone"),
        ("Ännas Händy 电话 📱", "Ännas Händy 电话 📱"),
        ("می‌خواهم", "می‌خواهم"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r", "two\\x0alines\\x0d"),
        ("c1 \x9b31m", "c1 \\x9b31m"),
        ("gpj\u202eexe", "gpj\\u202eexe"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("lone \ud800", "lone \\ud800"),
        ("break \u2028", "break \\u2028"),
    ],
)
def test_hidden_characters_are_spelt_out_and_others_left_alone(text, shown):
    assert visible(text) == shown


@given(st.text())
def test_what_comes_out_holds_nothing_hidden_and_can_be_printed(text):
    shown = visible(text)
    assert not any(is_hidden(letter) for letter in shown)
    shown.encode()
