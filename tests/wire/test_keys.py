from binascii import unhexlify

from shared.expect import raises
from wayhomed.wire import keys
from wayhomed.wire.errors import BadWire

# Private keys of the protocol reference: one byte repeated, clamped; and their public keys.
PAIRS = (
    (0x11, "1011111111111111111111111111111111111111111111111111111111111151",
     "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"),
    (0x22, "2022222222222222222222222222222222222222222222222222222222222262",
     "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"),
    (0x33, "3033333333333333333333333333333333333333333333333333333333333373",
     "7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14"),
    (0x44, "4044444444444444444444444444444444444444444444444444444444444444",
     "ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6b"),
    (0x55, "5055555555555555555555555555555555555555555555555555555555555555",
     "38ab664bd86f77d7e66bdd9ae0792913a94fd8b33a1260027e4b46c1f4884c67"),
    (0x66, "6066666666666666666666666666666666666666666666666666666666666666",
     "219e4d800da968d2a5fcb009c784f4746c7138edb9ee4844b739e830b05cf424"),
    (0x88, "8888888888888888888888888888888888888888888888888888888888888848",
     "30d3c865a48fceb3d6118577cf2e5f228d6ff69866264757785b253cb7a4806a"),
    (0x99, "9899999999999999999999999999999999999999999999999999999999999959",
     "ba193836cff1f4e866c139715d306408d26a76f76d638a39afc1001084d25411"),
)  # fmt: skip
PREFIXES = (keys.MACHINE, keys.NODE, keys.DISCO, keys.PRIVATE, keys.CHALLENGE, keys.NETWORK_LOCK)
RAW = bytes(range(32))
HEX = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"


def test_private_keys_are_clamped_and_have_the_public_keys_of_the_reference():
    for byte, private, public in PAIRS:
        assert keys.new_private(bytes([byte]) * 32) == unhexlify(private)
        assert keys.public_of(unhexlify(private)) == unhexlify(public)


def test_clamping_sets_and_clears_every_bit_it_should():
    assert keys.new_private(b"\xff" * 32) == b"\xf8" + b"\xff" * 30 + b"\x7f"
    assert keys.new_private(bytes(32)) == bytes(31) + b"\x40"


def test_text_forms_have_their_prefix_and_lower_case_hex():
    assert PREFIXES == ("mkey:", "nodekey:", "discokey:", "privkey:", "chalpub:", "nlpub:")
    for prefix in PREFIXES:
        assert keys.key_text(prefix, RAW) == prefix + HEX
        assert keys.key_from_text(prefix, prefix + HEX) == RAW


def test_the_zero_key_is_legal():
    assert keys.key_from_text(keys.NODE, "nodekey:" + "0" * 64) == keys.ZERO == bytes(32)


def test_readers_accept_upper_case_hex():
    assert keys.key_from_text(keys.NODE, "nodekey:" + HEX.upper()) == RAW


def test_a_key_without_prefix_is_bare_hex():
    assert keys.key_from_text("", HEX) == RAW
    assert keys.key_text("", RAW) == HEX


def test_a_key_of_another_kind_is_refused():
    for prefix in PREFIXES:
        for other in PREFIXES:
            if other != prefix:
                raises(BadWire, keys.key_from_text, prefix, other + HEX)
    raises(BadWire, keys.key_from_text, keys.NODE, "NODEKEY:" + HEX)


def test_a_key_cut_short_or_too_long_is_refused():
    text = keys.NODE + HEX
    for cut in range(len(text)):
        raises(BadWire, keys.key_from_text, keys.NODE, text[:cut])
    raises(BadWire, keys.key_from_text, keys.NODE, text + "00")
    raises(BadWire, keys.key_from_text, keys.NODE, text + " ")


def test_a_key_that_is_no_hex_is_refused():
    for wrong in ("g", " ", "\0", "é", "\n"):
        raises(BadWire, keys.key_from_text, keys.NODE, keys.NODE + wrong + HEX[1:])
        raises(BadWire, keys.key_from_text, keys.NODE, keys.NODE + HEX[:-1] + wrong)


def test_a_key_that_is_no_text_is_refused():
    for wrong in (None, 5, 1.5, [], {}, RAW, True):
        raises(BadWire, keys.key_from_text, keys.NODE, wrong)


def test_keys_of_another_length_cannot_be_written_or_made():
    raises(ValueError, keys.key_text, keys.NODE, bytes(31))
    raises(ValueError, keys.new_private, bytes(33))


def test_the_short_form_is_five_base64_characters():
    assert keys.short(RAW) == "[AAECA]"
