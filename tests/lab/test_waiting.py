"""Waiting for a condition."""

import pytest

from wayhome.lab.waiting import NotInTime, wait_until


def test_the_first_true_value_is_returned():
    values = iter([None, 0, "", "there"])
    assert wait_until(lambda: next(values), 60, "a value") == "there"


def test_a_condition_that_never_comes_true_is_named_with_its_last_look():
    with pytest.raises(NotInTime, match=r"waited 0 s for the moon; the last look showed \[\]"):
        wait_until(list, 0, "the moon")


def test_the_condition_is_looked_at_at_least_once():
    assert wait_until(lambda: True, 0, "anything")
