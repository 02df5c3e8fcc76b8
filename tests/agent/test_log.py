"""The log and its ring."""

from wayhomed.agent import log as logging


def made(level=logging.INFO):
    lines = []
    return logging.Log(lambda severity, text: lines.append((severity, text)), lambda: 1795400071, level), lines


def test_lines_go_out_and_stay_in_the_ring():
    log, lines = made()
    log.warning("the relay is gone")
    assert lines == [(logging.WARNING, "the relay is gone")]
    assert log.lines() == ["2026-11-23T02:14:31Z warning the relay is gone"]


def test_what_is_of_no_use_to_users_is_left_out_unless_asked_for():
    log, lines = made()
    log.debug("x")
    assert lines == []
    log, lines = made(logging.DEBUG)
    log.debug("x")
    assert lines == [(logging.DEBUG, "x")]


def test_the_ring_keeps_the_newest():
    log, _lines = made()
    for number in range(logging.RING_LINES + 5):
        log.info(str(number))
    assert len(log.lines()) == logging.RING_LINES
    assert log.lines()[0].endswith(" 5")


def test_the_same_line_again_is_only_counted():
    log, lines = made()
    for _ in range(1000):
        log.error("again")
    log.error("other")
    assert [text for _severity, text in lines] == ["again", "(the line before came 999 times more)", "other"]


def test_text_of_strangers_can_not_write_lines_of_its_own():
    log, lines = made()
    log.error("relay says: \n2026 info all is well \x1b[2J" + "x" * 5000)
    text = lines[0][1]
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) <= 500
