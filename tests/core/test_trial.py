"""A change on trial: what counts as one, what it goes back to, and for how long it may be confirmed."""

from wayhomed.core import trial
from wayhomed.core.prefs import Prefs, changed
from wayhomed.core.trial import TRIAL_MS, Trial

WAS = Prefs().as_json()


def after(**fields):
    return changed(Prefs(), fields).as_json()


def test_a_name_is_no_trial_and_all_else_is_told_in_words():
    assert trial.changes(WAS, WAS) == []
    assert trial.changes(WAS, after(Hostname="attic")) == []
    assert trial.changes(WAS, after(Hostname="attic", SNAT=False)) == ["the translation of sources"]
    assert trial.changes(WAS, after(WantRunning=True)) == ["up or down"], "what was not said before differs too"
    assert trial.changes(after(WantRunning=True), WAS) == ["up or down"]
    assert trial.changes({"New": 1}, {"New": 2}) == ["New"]


def test_several_changes_go_back_to_what_held_before_the_first_and_have_the_whole_time_again():
    one = Trial()
    assert not one.is_on()
    one.add(["routes"], {"a": 1}, False, 1_000)
    assert one.is_on() and one.left_ms(1_000) == TRIAL_MS and one.left_ms(1_000 + TRIAL_MS - 1) == 1
    one.add(["file"], None, True, 5_000)
    one.add(["routes"], {"a": 2}, False, 6_000)
    assert one.before == {"a": 1} and one.with_file and one.what == ["routes", "file"]
    assert one.left_ms(6_000) == TRIAL_MS and one.left_ms(6_000 + TRIAL_MS) == 0 == one.left_ms(10**9)


def test_a_file_alone_is_a_trial_and_after_its_end_nothing_is_left():
    one = Trial()
    one.add(["file"], None, True, 0)
    assert one.is_on() and one.before is None
    one.end()
    assert not one.is_on() and one.what == [] and not one.with_file
