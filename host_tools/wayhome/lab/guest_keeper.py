"""Holds a guest: `python -m wayhome.lab.guest_keeper LIFELINE WORDS...` runs the words and sees to their end.

LIFELINE is the number of an inherited pipe's reading end. When its other end closes, however its owner ended, the guest
is killed; should this process be killed, the kernel kills the guest. So no virtual machine outlives its test.
"""

import ctypes
import os
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    lifeline = int(arguments[0])
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(lifeline)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)  # it ended before the kernel was asked
        os.execvp(arguments[1], arguments[1:])
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([lifeline, ended], [], [])
    if ended not in ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
