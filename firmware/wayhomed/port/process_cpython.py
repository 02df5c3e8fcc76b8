"""Child processes on CPython, behind port.process."""

import os
import subprocess

from .packets import wait_readable


class Child:
    """A running program, in a session of its own: Ctrl-C at a terminal reaches us alone, and we end it in order."""

    def __init__(self, words: list, environment: dict):
        """Start words[0], found on PATH, with our environment and these variables. Raises OSError if it can't."""
        self._process = subprocess.Popen(
            words, env=dict(os.environ, **environment), stdin=subprocess.DEVNULL, start_new_session=True
        )
        self.pid = self._process.pid

    def exit_code(self):
        """Return None while it runs, then its exit code (negative: the signal that ended it)."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended already."""
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait for the end, return the exit code."""
        if self._process.poll() is None:
            watched = os.pidfd_open(self.pid)
            try:
                await wait_readable(watched)
            finally:
                os.close(watched)
        return self._process.wait()
