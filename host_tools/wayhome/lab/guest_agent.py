"""The first process of a guest: runs there what the host asks for, under MicroPython (see guest.py; not imported here).

Started as `guest_agent.py PORT`, a virtio serial port's device. Both ways go frames: kind (1 byte), process (4 bytes,
big-endian, a number that the host chose), length (4 bytes), so many bytes. If this ends, the kernel panics: there is no
guest without it. When the host's end of the port closes, the machine is switched off.
"""
# mypy: ignore-errors
# It runs where ffi is, and no other part of this package.

import errno
import json
import os
import select
import struct
import sys

import ffi

HEADER = ">BII"
HEADER_BYTES = 9
# from the host
START = 1  # JSON: {"words", "environment", "folder"}
INPUT = 2  # for its standard input; the next comes after TAKEN
INPUT_END = 3
SIGNAL = 4  # one byte: the number, for the process and all of its group
# to the host
READY = 16  # the guest is up
OUTPUT = 17
ERROR = 18  # what it wrote to standard error
ENDED = 19  # 4 bytes, signed: exit code, or minus the signal
TAKEN = 20  # the last INPUT was written

PIECE = 32768
ORPHANS_MS = 1000
O_NONBLOCK, O_CLOEXEC = 0o4000, 0o2000000
SYS_PIDFD_OPEN = 434
WNOHANG = 1

libc = ffi.open("libc.so.6")
c_open = libc.func("i", "open", "sii")
c_read = libc.func("i", "read", "ipi")
c_write = libc.func("i", "write", "iPi")
c_close = libc.func("i", "close", "i")
c_pipe2 = libc.func("i", "pipe2", "pi")
c_fcntl = libc.func("i", "fcntl", "iii")
c_dup2 = libc.func("i", "dup2", "ii")
c_fork = libc.func("i", "fork", "")
c_setsid = libc.func("i", "setsid", "")
c_execvpe = libc.func("i", "execvpe", "spp")
c_exit = libc.func("v", "_exit", "i")
c_kill = libc.func("i", "kill", "ii")
c_waitpid = libc.func("i", "waitpid", "ipi")
c_syscall = libc.func("i", "syscall", "iii")
c_sync = libc.func("v", "sync", "")
c_reboot = libc.func("i", "reboot", "i")


def pointers(texts):
    """Return (what must be kept, a char *[] that ends in NULL)."""
    from uctypes import addressof

    kept = [bytearray(text.encode() + b"\0") for text in texts]
    return kept, bytearray(b"".join([struct.pack("P", addressof(text)) for text in kept]) + struct.pack("P", 0))


class Port:
    def __init__(self, path):
        self.fd = c_open(path, 0o2 | O_NONBLOCK | O_CLOEXEC, 0)
        if self.fd < 0:
            raise OSError(os.errno(), path)
        self._buffer = bytearray(PIECE)
        self._read = b""
        self._writable = select.poll()
        self._writable.register(self.fd, select.POLLOUT)

    def frames(self):
        """Return the whole frames that have come: (kind, process, payload)."""
        count = c_read(self.fd, self._buffer, PIECE)
        if count == 0:
            switch_off()
        if count > 0:
            self._read += bytes(self._buffer[:count])
        found = []
        while len(self._read) >= HEADER_BYTES:
            kind, process, length = struct.unpack(HEADER, self._read)
            if len(self._read) < HEADER_BYTES + length:
                break
            found.append((kind, process, self._read[HEADER_BYTES : HEADER_BYTES + length]))
            self._read = self._read[HEADER_BYTES + length :]
        return found

    def send(self, kind, process, payload=b""):
        rest = memoryview(struct.pack(HEADER, kind, process, len(payload)) + payload)
        while len(rest):
            count = c_write(self.fd, rest, min(len(rest), PIECE))
            if count > 0:
                rest = rest[count:]
            elif os.errno() == errno.EAGAIN:
                self._writable.poll(1000)
            else:
                switch_off()


class Process:
    """A running program. input, output, error: our ends of its pipes, -1 once closed."""

    def __init__(self, number, order):
        self.number = number
        pipes = bytearray(24)
        for at in range(3):
            part = bytearray(8)
            if c_pipe2(part, O_CLOEXEC) < 0:
                raise OSError(os.errno(), "pipe2")
            pipes[at * 8 : at * 8 + 8] = part
        theirs_in, self.input, self.output, theirs_out, self.error, theirs_err = struct.unpack("6i", pipes)
        self.to_write = b""
        self.input_ended = False
        self.status = None
        _words, arguments = pointers(order["words"])
        _variables, environment = pointers([name + "=" + value for name, value in order["environment"].items()])
        self.pid = c_fork()
        if self.pid == 0:
            c_setsid()
            for at, descriptor in enumerate((theirs_in, theirs_out, theirs_err)):
                c_dup2(descriptor, at)
            try:
                os.chdir(order["folder"])
            except OSError:
                os.chdir("/")
            # execvp looks in our PATH, not in the one that the program gets
            os.putenv("PATH", order["environment"].get("PATH", "/bin"))
            c_execvpe(order["words"][0], arguments, environment)
            message = f"guest: cannot start {order['words'][0]}: error {os.errno()}\n".encode()
            c_write(2, message, len(message))
            c_exit(127)
        for descriptor in (theirs_in, theirs_out, theirs_err):
            c_close(descriptor)
        for descriptor in (self.input, self.output, self.error):
            c_fcntl(descriptor, 4, O_NONBLOCK)
        self.watched = c_syscall(SYS_PIDFD_OPEN, self.pid, 0)


class Agent:
    def __init__(self, port):
        self.port = port
        self.poll = select.poll()
        self.poll.register(port.fd, select.POLLIN)
        self.by_descriptor = {}
        self.processes = {}
        self.buffer = bytearray(PIECE)

    def run(self):
        self.port.send(READY, 0)
        while True:
            for descriptor, event in self.poll.poll(ORPHANS_MS):
                if descriptor == self.port.fd:
                    if event & select.POLLHUP:
                        switch_off()
                    for kind, number, payload in self.port.frames():
                        self.ordered(kind, number, payload)
                elif descriptor in self.by_descriptor:
                    process = self.by_descriptor[descriptor]
                    if descriptor == process.input:
                        self.write_input(process)
                    elif descriptor != process.watched:
                        self.read_output(process, descriptor)
            self.reap()

    def ordered(self, kind, number, payload):
        if kind == START:
            process = Process(number, json.loads(payload))
            self.processes[number] = process
            for descriptor in (process.output, process.error, process.watched):
                self.watch(process, descriptor, select.POLLIN)
            return
        process = self.processes.get(number)
        if process is None or process.status is not None:
            return
        if kind == INPUT:
            process.to_write = payload
            if process.input >= 0:
                self.watch(process, process.input, select.POLLOUT)
            else:
                self.port.send(TAKEN, number)
        elif kind == INPUT_END:
            process.input_ended = True
            if not process.to_write:
                self.close_input(process)
        elif kind == SIGNAL:
            c_kill(-process.pid, payload[0])

    def watch(self, process, descriptor, events):
        self.by_descriptor[descriptor] = process
        self.poll.register(descriptor, events)

    def forget(self, descriptor):
        self.poll.unregister(descriptor)
        del self.by_descriptor[descriptor]

    def write_input(self, process):
        count = c_write(process.input, process.to_write, len(process.to_write))
        if count < 0 and os.errno() == errno.EAGAIN:
            return
        process.to_write = process.to_write[count:] if count >= 0 else b""
        if process.to_write:
            return
        self.forget(process.input)
        self.port.send(TAKEN, process.number)
        if process.input_ended or count < 0:
            self.close_input(process)

    def close_input(self, process):
        if process.input >= 0:
            if process.input in self.by_descriptor:
                self.forget(process.input)
            c_close(process.input)
            process.input = -1

    def read_output(self, process, descriptor):
        """Pass on what there is; return whether there may be more."""
        count = c_read(descriptor, self.buffer, PIECE)
        if count < 0 and os.errno() == errno.EAGAIN:
            return False
        if count > 0:
            # what others write who inherited the pipe, once it has ended itself, is of no interest
            if process.number in self.processes:
                kind = OUTPUT if descriptor == process.output else ERROR
                self.port.send(kind, process.number, bytes(self.buffer[:count]))
            return True
        self.forget(descriptor)
        c_close(descriptor)
        if descriptor == process.output:
            process.output = -1
        else:
            process.error = -1
        return False

    def reap(self):
        """Take in what has ended: our processes, and orphans of theirs."""
        status = bytearray(4)
        while (pid := c_waitpid(-1, status, WNOHANG)) > 0:
            for process in list(self.processes.values()):
                if process.pid == pid:
                    self.has_ended(process, struct.unpack("i", status)[0])

    def has_ended(self, process, status):
        for descriptor in (process.output, process.error):
            while descriptor in self.by_descriptor and self.read_output(process, descriptor):
                pass
        process.status = -(status & 0x7F) if status & 0x7F else status >> 8 & 0xFF
        self.close_input(process)
        self.forget(process.watched)
        c_close(process.watched)
        del self.processes[process.number]
        self.port.send(ENDED, process.number, struct.pack(">i", process.status))


def switch_off():
    c_sync()
    c_reboot(0x4321FEDC)


Agent(Port(sys.argv[1])).run()
