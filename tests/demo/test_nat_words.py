"""What was measured of a NAT, in words: none of them may say more than was measured, and each fits its box."""

import itertools

from wayhome.demo import nat_words
from wayhome.lab.nat import Behaviour
from wayhome.lab.nat_probe import Measured

EVERY = [
    Measured(True, mapping, filtering, preserved)
    for mapping, filtering, preserved in itertools.product(Behaviour, Behaviour, (True, False))
]


def test_every_kind_has_words_that_fit_into_the_picture():
    for measured in [*EVERY, Measured(udp=False)]:
        assert 0 < len(nat_words.short(measured)) <= 27
        assert nat_words.full(measured)


def test_mapping_and_filtering_are_told_apart():
    told = {nat_words.full(measured) for measured in EVERY}
    # a NAT that gives every call another port is not asked whether it keeps the number
    assert len(told) == 3 * 2 + 3
    assert "lets no UDP through" in nat_words.full(Measured(udp=False))


def test_a_nat_that_gives_each_call_another_port_is_named_for_that():
    hard = Measured(True, Behaviour.ADDRESS_AND_PORT_DEPENDENT, Behaviour.ENDPOINT_INDEPENDENT)
    assert nat_words.short(hard) == "a new port for each call"
