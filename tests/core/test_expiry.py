from wayhomed.core import expiry

DAY = 86_400
END = 1_800_000_000


def test_warnings_come_weeks_ahead_and_ever_more_often():
    due = []
    for hours in range(24 * 40, -48, -1):
        step = expiry.step(END, END - hours * 3600)
        if not due or due[-1] != step:
            due.append(step)
    assert due == [None, 28, 14, 7, 3, 1, 0]


def test_a_key_that_never_ends_and_a_clock_that_nobody_trusts_warn_nobody():
    assert expiry.step(0, END) is None
    assert expiry.step(END, 0) is None
    assert expiry.words(0, END) == ""
    assert expiry.words(END, END - 29 * DAY) == ""


def test_the_warning_says_how_long_and_what_to_run():
    assert "in 28 days" in expiry.words(END, END - 28 * DAY)
    assert "in 5 days" in expiry.words(END, END - 4 * DAY - 1)
    assert "less than a day" in expiry.words(END, END - 60)
    assert "wayhomectl up --renew-key" in expiry.words(END, END - 60)


def test_an_expired_key_says_so_and_what_to_run():
    for now in (END, END + 1, END + 400 * DAY):
        assert "has expired" in expiry.words(END, now)
        assert "wayhomectl up" in expiry.words(END, now)
