"""The log and its ring."""

from wayhomed.agent import log as logging


class Clock:
    def __init__(self):
        self.now_s = 1795400071

    def __call__(self):
        return self.now_s


def made(level=logging.INFO):
    lines = []
    return logging.Log(lambda severity, text: lines.append((severity, text)), Clock(), level), lines


def made_with_clock():
    lines, clock = [], Clock()
    return logging.Log(lambda _severity, text: lines.append(text), clock), lines, clock


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
    log, _lines, clock = made_with_clock()
    for number in range(logging.RING_LINES + 5):
        clock.now_s += 10
        log.info(str(number))
    assert len(log.lines()) == logging.RING_LINES
    assert log.lines()[0].endswith(" 5")


def test_the_same_line_at_once_again_is_only_counted():
    log, lines, clock = made_with_clock()
    for _ in range(1000):
        log.error("again")
    log.error("other")
    assert lines == ["again", "other"]
    assert log.lines()[-1].endswith("info repeated 999 times within 1 min: again")
    clock.now_s += 61
    log.info("a third")
    assert lines[2:] == ["repeated 999 times within 2 min: again", "a third"]


def test_what_comes_and_goes_is_told_a_few_times_and_then_counted():
    log, lines, _clock = made_with_clock()
    for _ in range(20):
        log.info("the relay is there")
        log.warning("the relay is gone")
    assert lines == ["the relay is there", "the relay is gone"] * 4
    assert [line.split(" ", 2)[2] for line in log.lines()[-2:]] == [
        "repeated 16 times within 1 min: the relay is gone",
        "repeated 16 times within 1 min: the relay is there",
    ]


def test_a_line_that_comes_for_hours_is_told_more_and_more_rarely():
    log, lines, clock = made_with_clock()
    for _ in range(5 * 360):
        log.error("no coordinator")
        log.error("no relay")
        clock.now_s += 10
    about = [text for text in lines if "no coordinator" in text]
    assert len(about) < 12
    assert about[-1] == "repeated 360 times within 60 min: no coordinator"


def test_a_line_that_did_not_come_for_a_while_is_new_again():
    log, lines, clock = made_with_clock()
    for _ in range(5):
        log.info("the link is up")
        clock.now_s += 61
    assert lines == ["the link is up"] * 5


def test_a_clock_that_is_set_back_hides_no_line():
    log, lines, clock = made_with_clock()
    for _ in range(6):
        log.info("one")
        log.info("two")
    clock.now_s -= 40_000_000
    log.info("three")
    assert lines[-1] == "three"
    log.info("one")
    assert [text for text in lines[8:] if "one" in text]


def test_a_flood_of_lines_that_differ_is_bounded_and_told():
    log, lines, clock = made_with_clock()
    for number in range(5000):
        log.warning("problem with node " + str(number))
    assert len(lines) < 300
    clock.now_s += 10
    log.info("calm")
    assert "lines were left out" in lines[-2]
    assert lines[-1] == "calm"


def test_what_the_log_remembers_is_bounded():
    log, lines, clock = made_with_clock()
    for number in range(300):
        clock.now_s += 2
        log.info("line " + str(number))
    assert len(lines) == 300
    assert len(log.lines()) == 300


def test_lines_go_elsewhere_when_the_systems_log_begins_anew():
    log, lines, _clock = made_with_clock()
    elsewhere = []
    log.write_to(lambda severity, text: elsewhere.append(text))
    log.info("here")
    assert lines == []
    assert elsewhere == ["here"]


def test_text_of_strangers_can_not_write_lines_of_its_own():
    log, lines = made()
    log.error("relay says: \n2026 info all is well \x1b[2J" + "x" * 5000)
    text = lines[0][1]
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) <= 500
