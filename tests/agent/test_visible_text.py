"""Strangers' text on the owner's terminal."""

from wayhomed.agent.visible_text import visible


def test_hidden_characters_are_spelt_out_and_others_left_alone():
    for text, shown in (
        ("annas-phone", "annas-phone"),
        ("Ännas Händy 电话 📱", "Ännas Händy 电话 📱"),
        ("می‌خواهم", "می‌خواهم"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r", "two\\x0alines\\x0d"),
        ("c1 \x9b31m", "c1 \\x9b31m"),
        ("gpj\u202eexe", "gpj\\u202eexe"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("break \u2028", "break \\u2028"),
        ("", ""),
    ):
        assert visible(text) == shown, shown
