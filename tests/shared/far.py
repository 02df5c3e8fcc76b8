"""Objects of another Python: a test under CPython drives the board's own objects in a MicroPython process.

    test (CPython)  ---- ask: get, set, call ---->  board's object (MicroPython)
    a fake's method <--------- ask: call ---------  which was given the fake

Both ends run this module. A Far stands for an object of the other end: reading an attribute, setting one and calling
ask there and wait for the answer. Plain data, exceptions and the tests' own instances of the board's classes go as
copies; functions, coroutines and everything else stay where they are. A coroutine runs where it was made and is awaited
from afar, so that cancelling it here cancels it there.

A frame on the wire is 4 bytes of length (big-endian) and JSON:
    ["ask", number, inside, what, values]  ->  ["answer", number, well, value]
    ["end", number, well, value]           a coroutine's outcome
    ["cancel", number]                     of a coroutine
inside: the number of the other's question in whose answering this one is asked, or 0.
"""

import asyncio
import builtins
import json
import select
import sys

MICROPYTHON = sys.implementation.name == "micropython"
_LENGTH_BYTES = 4
_PACKAGE = "wayhomed."


async def _nothing() -> None:
    pass


_coroutine = _nothing()
_COROUTINE = type(_coroutine)
_coroutine.close()


class _AnyClass:
    def method(self) -> None:
        pass


_METHOD = type(_AnyClass().method)
_MODULE = type(sys)


class OtherEndIsGone(Exception):
    """The other Python has ended."""


class Far:
    """An object of the other end."""

    __slots__ = ("_far",)  # without a __dict__ of its own, pytest's monkeypatch asks the other end for what was there

    def __init__(self, link, number: int):
        object.__setattr__(self, "_far", (link, number))

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._far[0].ask("get", self, name)

    def __setattr__(self, name: str, value) -> None:
        self._far[0].ask("set", self, name, value)

    def __call__(self, *args, **named):
        return self._far[0].ask("call", self, list(args), named)

    def __len__(self) -> int:
        return self._far[0].ask("len", self)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other) -> bool:
        return isinstance(other, Far) and self._far == other._far

    def __hash__(self) -> int:
        return self._far[1]


class FarMethod:
    """A method of an object of the other end."""

    def __init__(self, owner: Far, name: str):
        self.owner = owner
        self.name = name

    def __call__(self, *args, **named):
        return self.owner._far[0].ask("call method", self.owner, self.name, list(args), named)


class Link:
    """One end. stream: a connected blocking socket.

    Questions that come while this end waits for an answer are answered after it, but for those that are asked in
    answering it: nothing of the board's is called in the middle of something else, as in one process nothing is.
    at_once: answer them at once; for the end where the tests are, which would else wait for each other.
    """

    def __init__(self, stream, at_once: bool):
        self._stream = stream
        self._poll = select.poll()
        self._poll.register(stream, select.POLLIN)
        self._at_once = at_once
        self._asked = 0
        self._open: list = []  # numbers of our questions that wait for their answers
        self._inside = 0
        self._answers: dict = {}
        self._later: list = []
        self._held: dict = {}  # {number: object of this end}
        self._numbers: dict = {}  # {id(object): number}
        self._last = 0
        self._tasks: dict = {}  # {number: task of this end}
        self._ends: dict = {}  # {number: outcome of a task of the other end}
        self._awaited: dict = {}  # {number: Event}

    def forget(self) -> None:
        """Let go of all that the other end may have asked for."""
        self._held, self._numbers = {}, {}

    # --- Asking ---

    def ask(self, what: str, *values):
        self._asked += 1
        number = self._asked
        self._send(["ask", number, self._inside, what, [self.encode(value) for value in values]])
        self._open.append(number)
        try:
            while number not in self._answers:
                self._take(self._read())
        finally:
            self._open.remove(number)
        well, value = self._answers.pop(number)
        if self._later and not self._open:
            asyncio.create_task(self._work_off())  # noqa: RUF006 - it ends by itself
        if not well:
            raise self.decode(value)
        return self.decode(value)

    async def _work_off(self) -> None:
        while self._later and not self._open:
            self._use(self._later.pop(0))

    async def _await(self, number: int):
        """Wait for the end of a coroutine of the other end."""
        event = self._awaited[number] = asyncio.Event()
        if number in self._ends:
            event.set()
        try:
            await event.wait()
        except asyncio.CancelledError:
            self._send(["cancel", number])
            await event.wait()
            raise
        finally:
            del self._awaited[number]
        well, value = self._ends.pop(number)
        if not well:
            raise self.decode(value)
        return self.decode(value)

    # --- Answering ---

    def serve_waiting(self) -> None:
        """Take the next frame if there is one; an answer that was waited for has perhaps been it."""
        if self._poll.poll(0):
            self._take(self._read())

    def _take(self, message: list) -> None:
        kind = message[0]
        if kind == "answer":
            self._answers[message[1]] = message[2:]
        elif self._is_for_later(message):
            self._later.append(message)
        else:
            self._use(message)

    def _is_for_later(self, message: list) -> bool:
        if self._at_once:
            return False
        if self._open:
            return message[0] != "ask" or message[2] not in self._open
        return bool(self._later)

    def _use(self, message: list) -> None:
        kind = message[0]
        if kind == "ask":
            self._answer(message[1], message[3], message[4])
        elif kind == "end":
            self._ends[message[1]] = message[2:]
            if message[1] in self._awaited:
                self._awaited[message[1]].set()
        elif kind == "cancel":
            task = self._tasks.get(message[1])
            if task is not None:
                task.cancel()

    def _answer(self, number: int, what: str, values: list) -> None:
        before, self._inside = self._inside, number
        try:
            value = self.encode(self._do(what, [self.decode(value) for value in values]))
            well = True
        except Exception as error:
            well, value = False, self.encode(error)
        finally:
            self._inside = before
        self._send(["answer", number, well, value])

    def _do(self, what: str, values: list):
        if what == "get":
            found = getattr(values[0], values[1])
            return FarMethod(values[0], values[1]) if type(found) is _METHOD else found
        if what == "set":
            setattr(values[0], values[1], values[2])
            return None
        if what == "call":
            return values[0](*values[1], **values[2])
        if what == "call method":
            return getattr(values[0], values[1])(*values[2], **values[3])
        if what == "len":
            return len(values[0])
        if what == "fields":
            return dict(values[0].__dict__)
        if what == "module":
            return _module(values[0])
        if what == "forget":
            self.forget()
            return None
        raise ValueError(what)

    async def _run(self, number: int, coroutine) -> None:
        try:
            well, value = True, self.encode(await coroutine)
        except (Exception, asyncio.CancelledError) as error:
            well, value = False, self.encode(error)
        del self._tasks[number]
        self._send(["end", number, well, value])

    # --- Values ---

    def encode(self, value):
        """Return what JSON can hold of a value."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, list):
            return [self.encode(one) for one in value]
        if isinstance(value, dict):
            return {"dict": [[self.encode(key), self.encode(value[key])] for key in value]}
        if isinstance(value, (bytes, bytearray, memoryview)):
            return {"bytes": bytes(value).hex()}
        if isinstance(value, tuple):
            kind = type(value)
            name = "" if kind is tuple else kind.__name__
            return {"tuple": [self.encode(one) for one in value], "class": name, "module": _module_of(kind)}
        if isinstance(value, (set, frozenset)):
            return {"set": [self.encode(one) for one in value]}
        if isinstance(value, Far):
            return {"yours": value._far[1]}
        if isinstance(value, FarMethod):
            return self._encode_method(value)
        if isinstance(value, BaseException):
            return {"error": _names(value), "args": self.encode(list(value.args))}
        if isinstance(value, _MODULE) and value.__name__.startswith(_PACKAGE) and not MICROPYTHON:
            return {"module": value.__name__}
        if isinstance(value, _COROUTINE):
            self._last += 1
            number = self._last
            self._tasks[number] = asyncio.create_task(self._run(number, value))
            return {"task": number}
        module = _module_of(type(value))
        if module.startswith(_PACKAGE) and not isinstance(value, type) and not MICROPYTHON:
            fields = self.encode(dict(value.__dict__))
            return {"object": type(value).__name__, "module": module, "fields": fields}
        return {"mine": self._hold(value)}

    def _encode_method(self, method: FarMethod):
        if isinstance(method.owner, Far):
            return {"your method": method.owner._far[1], "name": method.name}
        return {"my method": self._hold(method.owner), "name": method.name}

    def _hold(self, value) -> int:
        key = id(value)
        if key not in self._numbers:
            self._last += 1
            self._numbers[key] = self._last
            self._held[self._last] = value
        return self._numbers[key]

    def decode(self, value):
        if isinstance(value, list):
            return [self.decode(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "dict" in value:
            return {self.decode(key): self.decode(one) for key, one in value["dict"]}
        if "bytes" in value:
            return bytes.fromhex(value["bytes"])
        if "tuple" in value:
            items = [self.decode(one) for one in value["tuple"]]
            kind = _find(value["class"], value["module"]) if value["class"] else None
            return tuple(items) if kind is None else kind(*items)
        if "set" in value:
            return {self.decode(one) for one in value["set"]}
        if "yours" in value:
            return self._held[value["yours"]]
        if "your method" in value:
            return getattr(self._held[value["your method"]], value["name"])
        if "mine" in value:
            return Far(self, value["mine"])
        if "my method" in value:
            return FarMethod(Far(self, value["my method"]), value["name"])
        if "error" in value:
            return _error(value["error"], self.decode(value["args"]))
        if "task" in value:
            return self._await(value["task"])
        if "object" in value:
            made = object.__new__(_find(value["object"], value["module"]))
            fields = self.decode(value["fields"])
            for name in fields:
                setattr(made, name, fields[name])
            return made
        return _module(value["module"])

    # --- The wire ---

    def _send(self, message: list) -> None:
        data = json.dumps(message).encode()
        rest = memoryview(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        while len(rest):
            rest = rest[self._stream.send(rest) :]

    def _read(self) -> list:
        return json.loads(self._read_bytes(int.from_bytes(self._read_bytes(_LENGTH_BYTES), "big")))

    def _read_bytes(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._stream.recv(min(count, 65536))
            if not part:
                raise OtherEndIsGone("the other Python has ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _module(name: str):
    __import__(name)
    return sys.modules[name]


def _module_of(kind: type) -> str:
    return getattr(kind, "__module__", "")  # MicroPython's own classes have none


def _names(error: BaseException) -> list:
    """Return [class name, its module] of an error's class and of its bases, as far as this Python tells."""
    kinds = getattr(type(error), "__mro__", [type(error)])
    return [[kind.__name__, _module_of(kind)] for kind in kinds if kind is not object]


def _error(names: list, args: list) -> BaseException:
    for name, module in names:
        kind = _find(name, module)
        if kind is not None:
            if kind is OSError and len(args) == 1:
                args.append("error")  # CPython knows a number's meaning only beside a text
            return kind(*args) if MICROPYTHON else kind.__new__(kind, *args)
    return RuntimeError(names[0][0] + str(args))


def _find(name: str, module: str):
    """Return a class by its name and module; without one, whichever module of the board's has it; None: nobody."""
    if module.startswith(_PACKAGE):
        return getattr(_module(module), name)
    for place in [builtins, asyncio] + [
        sys.modules[loaded] for loaded in list(sys.modules) if loaded.startswith(_PACKAGE)
    ]:
        found = getattr(place, name, None)
        if isinstance(found, type):
            return found
    return None
