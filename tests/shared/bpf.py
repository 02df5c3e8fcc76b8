"""A classic BPF machine as the kernel's, for the instructions that the board's socket filters use.

Source: <linux/filter.h>, "BSD Packet Filter" (McCanne, Jacobson, 1992).
"""


def accepts(program, packet, interface=0):
    """Run a program on a packet that came by this interface: whether it lets it through.

    A load from beyond the end rejects.
    """
    loaded = index = at = 0
    while True:
        assert at < len(program), "the program runs out of its end"
        code, if_true, if_false, k = program[at]
        at += 1
        if code == 0x06:  # ret
            return k != 0
        if code == 0x15:  # jeq
            at += if_true if loaded == k else if_false
        elif code == 0x45:  # jset
            at += if_true if loaded & k else if_false
        elif code == 0x54:  # and
            loaded &= k
        elif code == 0x01:  # ldx #k
            index = k
        elif (code, k) == (0x20, 0xFFFFF008):  # ld the interface
            loaded = interface
        else:
            # ld, ldh, ldb at k, then at x + k; ldx 4 * ([k] & 15)
            size = {0x20: 4, 0x28: 2, 0x30: 1, 0x40: 4, 0x48: 2, 0x50: 1, 0xB1: 1}[code]
            start = k + index if code in (0x40, 0x48, 0x50) else k
            if start + size > len(packet):
                return False
            value = int.from_bytes(packet[start : start + size], "big")
            if code == 0xB1:
                index = 4 * (value & 15)
            else:
                loaded = value


def check(program):
    """Every jump must land inside the program, and its last instruction must return: what the kernel asks of it."""
    assert program[-1][0] == 0x06
    for at in range(len(program)):
        code, if_true, if_false, _k = program[at]
        if code in (0x15, 0x45):
            assert at + 1 + max(if_true, if_false) < len(program)
