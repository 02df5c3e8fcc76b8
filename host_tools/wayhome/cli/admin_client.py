"""Speaks to a running coordinator over its unix socket: one request, one answer, errors as sentences."""

import http.client
import json
import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

from ..errors import HostError
from ..state_directory import SOCKET_NAME, default_state_directory

# An answer with every node of a large mesh is some megabytes; more is not ours.
_ANSWER_LIMIT = 64 << 20
_ANSWER_SECONDS = 30.0
# sun_path of unix(7) holds 108 bytes, the last of them zero.
_SOCKET_PATH_BYTES = 107


class AdminClient:
    """A coordinator's admin API as seen from the socket at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, *segments: str, **query: str) -> object:
        return self.request("GET", segments, query=query)

    def post(self, *segments: str, body: Mapping[str, object]) -> object:
        return self.request("POST", segments, body=body)

    def delete(self, *segments: str, **query: str) -> object:
        return self.request("DELETE", segments, query=query)

    def request(
        self,
        method: str,
        segments: tuple[str, ...],
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> object:
        """Send one request and return the decoded answer, None for an empty one.

        segments are the path below /v1, each quoted here, so that a name with a slash stays one name.
        Raises HostError with the server's own sentence, or with what to do when there is no server to ask.
        """
        target = "/v1/" + "/".join(quote(segment, safe="") for segment in segments)
        if query:
            target += "?" + urlencode(query)
        connection = _UnixConnection(self.path)
        try:
            if body is None:
                connection.request(method, target)
            else:
                connection.request(method, target, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read(_ANSWER_LIMIT + 1)
        except (OSError, http.client.HTTPException) as error:
            raise HostError(unreachable(self.path, error)) from error
        finally:
            connection.close()
        if len(content) > _ANSWER_LIMIT:
            raise HostError(f"the answer from {self.path} is too large to be a coordinator's")
        decoded = _decode(self.path, content)
        if answer.status >= 400:
            detail = decoded.get("detail") if isinstance(decoded, dict) else None
            raise HostError(str(detail or f"the coordinator answered {answer.status} {answer.reason}; see its log"))
        return decoded


def find_socket(socket_path: Path | None, state: Path | None, environment: Mapping[str, str], user_id: int) -> Path:
    """Return the admin socket to speak to: the one named, else the one in the state directory named or usual."""
    if socket_path is not None:
        return socket_path
    return (state or default_state_directory(environment, user_id)) / SOCKET_NAME


def unreachable(path: Path, error: Exception) -> str:
    """Say why nobody answers at the socket, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        return (
            f"no coordinator is running at {path}; start it with `wayhome serve --state {path.parent}`, "
            "or name where it keeps its state: --state DIR"
        )
    if isinstance(error, PermissionError):
        owner = _owner(path)
        return f"only {owner} may speak to the coordinator at {path}; try again with `sudo -u {owner}`"
    if isinstance(error, ConnectionRefusedError):
        return f"the coordinator at {path} has stopped; start it again with `wayhome serve --state {path.parent}`"
    if isinstance(error, TimeoutError):
        return f"the coordinator at {path} did not answer within {_ANSWER_SECONDS:.0f} s; see its log"
    return f"cannot speak to the coordinator at {path} ({error}); is another program listening there?"


def _owner(path: Path) -> str:
    for place in (path, path.parent):
        try:
            number = os.stat(place).st_uid
        except OSError:
            continue
        try:
            return pwd.getpwuid(number).pw_name
        except KeyError:
            return f"#{number}"
    return "root"


def _decode(path: Path, content: bytes) -> object:
    if not content:
        return None
    try:
        return json.loads(content)
    except ValueError as error:
        raise HostError(f"what listens at {path} is not a coordinator: its answer is no JSON") from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("wayhome", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        if len(os.fsencode(self._path)) > _SOCKET_PATH_BYTES:
            raise HostError(
                f"the path {self._path} is longer than {_SOCKET_PATH_BYTES} bytes, which no unix socket can have; "
                "give the state directory a shorter one"
            )
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))
