"""ctypes behind port.ffi."""

import ctypes

LIBRARIES_CLOSE = False  # ctypes has no way to
_TYPES = {
    "v": None,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "Q": ctypes.c_uint64,
    "L": ctypes.c_size_t,
    "p": ctypes.c_void_p,
    "P": ctypes.c_void_p,
    "s": ctypes.c_char_p,
}


class _Library:
    def __init__(self, library):
        self._library = library

    def func(self, result: str, name: str, arguments: str):
        """Return a callable for the C function."""
        function = self._library[name]
        function.restype = _TYPES[result]
        function.argtypes = [_TYPES[code] for code in arguments]

        def call(*given):
            answer = function(*[_argument(value) for value in given])
            return answer.decode() if isinstance(answer, bytes) else answer

        return call


def _argument(value):
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytearray):
        return ctypes.addressof(ctypes.c_char.from_buffer(value))
    return value


def open_library(names: tuple) -> _Library:
    """Open the first library of these names that there is. Raises OSError."""
    problem = None
    for name in names:
        try:
            return _Library(ctypes.CDLL(name, use_errno=True))
        except OSError as error:
            problem = error
    raise OSError(str(problem))


def close_library(library) -> None:
    """Do nothing: ctypes keeps what it has opened."""


def address_of(buffer: bytearray) -> int:
    """Return where a buffer lies; good as long as the caller keeps the buffer and its size."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def errno_after_call() -> int:
    """Return errno as the last call left it."""
    return ctypes.get_errno()
