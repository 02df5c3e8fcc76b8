"""The machine's clocks: reading them is for everybody, setting takes CAP_SYS_TIME.

Asked of libc on both Pythons: MicroPython has no boot clock and can't set any. On 32 bits libc's calls of old count in
32-bit seconds, so the newer ones are taken where they are (glibc 2.34, musl 1.2).
Source: clock_gettime(2), adjtimex(2), rtc(4).
"""

import struct

from . import const
from .ffi import errno_after_call, libc
from .runtime import read_file

_REALTIME = const(0)
_BOOTTIME = const(7)
_WIDE = struct.calcsize("P") == 8
_TIMEX_BYTES = const(256)  # struct timex has 208, and 128 on 32 bits
_TIMEX_OFFSET = 8 if _WIDE else 4
_TIMEX_STATUS = 40 if _WIDE else 20
_ADJ_OFFSET_SINGLESHOT = const(0x8001)
_STA_UNSYNC = const(0x40)
_TIME_ERROR = const(5)
# RTC_SET_TIME of <linux/rtc.h> on x86, arm, arm64 and riscv (mips and powerpc count their ioctls differently)
_RTC_SET_TIME = 0x4024700A
_RTCS = ("/dev/rtc0", "/dev/rtc")
_DAY_S = const(86_400)
_WRITE_ONLY = const(0x80001)  # O_WRONLY, O_CLOEXEC

_calls: dict = {}


def _call(name: str, result: str, arguments: str):
    if name not in _calls:
        _calls[name] = libc().func(result, name, arguments)
    return _calls[name]


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(errno_after_call(), what)
    return result


def _timed(name: str) -> tuple:
    """Return (call, layout of its timespec) of clock_gettime or clock_settime."""
    if not _WIDE:
        try:
            return _call("__" + name + "64", "i", "iP"), "qii"
        except (OSError, AttributeError):  # what MicroPython and ctypes say where there is no such call
            return _call(name, "i", "iP"), "ii"
    return _call(name, "i", "iP"), "qq"


def _read_ms(clock: int) -> int:
    get, layout = _timed("clock_gettime")
    buffer = bytearray(16)
    _checked(get(clock, buffer), "clock_gettime")
    values = struct.unpack_from(layout, buffer)
    return values[0] * 1000 + values[1] // 1_000_000


def wall_ms() -> int:
    """Return the machine's clock in milliseconds since 1970."""
    return _read_ms(_REALTIME)


def up_ms() -> int:
    """Return the milliseconds since the machine booted, suspended or not; nobody can set this clock."""
    return _read_ms(_BOOTTIME)


def boot_id() -> str:
    """Return a text that is another at each boot; "" where the kernel tells none."""
    try:
        return str(read_file("/proc/sys/kernel/random/boot_id", 64) or b"", "utf-8").strip()
    except OSError:
        return ""


def is_kept() -> bool:
    """Tell whether a time service (chrony, systemd-timesyncd, ntpd) keeps the machine's clock right, as it says."""
    buffer = bytearray(_TIMEX_BYTES)
    try:
        state = _checked(_call("adjtimex", "i", "P")(buffer), "adjtimex")
    except OSError:  # a sandbox
        return False
    return state != _TIME_ERROR and not struct.unpack_from("i", buffer, _TIMEX_STATUS)[0] & _STA_UNSYNC


def set_wall_ms(time_ms: int) -> None:
    """Step the machine's clock. Raises OSError; 1 (EPERM) without CAP_SYS_TIME."""
    put, layout = _timed("clock_settime")
    values = [time_ms // 1000, time_ms % 1000 * 1_000_000] + [0] * (len(layout) - 2)
    _checked(put(_REALTIME, bytearray(struct.pack(layout, *values))), "setting the clock")


def slew(by_ms: int) -> None:
    """Have the machine's clock run by 0.5 ms a second faster or slower until it is off by so much. Raises OSError."""
    buffer = bytearray(_TIMEX_BYTES)
    struct.pack_into("I", buffer, 0, _ADJ_OFFSET_SINGLESHOT)
    struct.pack_into("l", buffer, _TIMEX_OFFSET, by_ms * 1000)
    _checked(_call("adjtimex", "i", "P")(buffer), "slewing the clock")


def write_rtc(time_ms: int, fields: tuple) -> bool:
    """Set the battery-backed clock (in UTC); False where there is none. Raises OSError.

    fields: (year, month, day, hour, minute, second) of that time.
    """
    year, month, day, hour, minute, second = fields
    wanted = struct.pack(
        "iiiiiiiii", second, minute, hour, day, month - 1, year - 1900, (time_ms // 1000 // _DAY_S + 4) % 7, 0, 0
    )
    for path in _RTCS:
        try:
            device = _checked(_call("open", "i", "si")(path, _WRITE_ONLY), path)
        except OSError as error:
            if error.errno in (2, 6, 19):  # ENOENT, ENXIO, ENODEV
                continue
            raise
        try:
            _checked(_call("ioctl", "i", "iLP")(device, _RTC_SET_TIME, wanted), "writing " + path)
        finally:
            _call("close", "i", "i")(device)
        return True
    return False
