"""A transfer that is watched: one HTTP request for a paced stream of a host's web server, and when its bytes came.

The reading side runs in a host as `python -m wayhome.lab.transfer URL [HEADER: VALUE]...` and writes lines of JSON,
times in seconds of the machine's monotonic clock, which all hosts of a lab share:

    {"at": 1.25, "bytes": 131072}                       how far it is, some ten times a second while bytes come
    {"began": 1.5, "silence": 0.75}                     a pause that is over
    {"done": 60.1, "bytes": 120000000, "sha256": HEX}   the stream has ended as its sender wanted
    {"error": "..."}                                    or has not
"""

import hashlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import HostError
from .host import Host
from .interpreter import python_environment
from .waiting import wait_until

# A pause shorter than this is the machine's own, not the network's.
NOTED_SILENCE_S = 0.25
_TELL_S = 0.1
_CHUNK_BYTES = 64 * 1024
# Longer than any pause that a connection should live through; the reader then gives up and says so.
_PATIENCE_S = 60


@dataclass(frozen=True)
class Silence:
    """A pause between two arrivals, in seconds of the monotonic clock."""

    began_s: float
    seconds: float


class Transfer:
    """One stream from a host's web server to a reader on another host; ended with stop()."""

    def __init__(
        self, server: Host, reader: Host, name: str, rate: int, log: Path, process: "subprocess.Popen[Any]"
    ) -> None:
        self.server, self.reader, self.name, self.rate = server, reader, name, rate
        self.begun_s = time.monotonic()
        self._log = log
        self._process = process

    @classmethod
    def start(
        cls, server: Host, reader: Host, url: str, *, name: str, rate: int, headers: Mapping[str, str] | None = None
    ) -> "Transfer":
        """Ask on `reader` for a stream of `rate` bytes a second; url leads to the web server of the host `server`.

        name seeds the bytes and must be new in this lab. Returns once the first bytes are there.
        """
        log = reader.lab.folder / f"{name}.transfer.log"
        words = [sys.executable, "-m", "wayhome.lab.transfer", f"{url.rstrip('/')}/stream/{name}/{rate}"]
        words += [f"{key}: {value}" for key, value in (headers or {}).items()]
        with log.open("w") as output:
            process = reader.popen(words, stdout=output, stderr=output, env=python_environment())
        made = cls(server, reader, name, rate, log, process)
        wait_until(lambda: made.received_bytes() > 0, 30, "the first bytes of the stream")
        return made

    def seconds(self) -> float:
        """Return how long it has been going on."""
        return time.monotonic() - self.begun_s

    def lines(self) -> list[dict[str, Any]]:
        """Return what the reader has said. Raises HostError if the stream broke."""
        # the last line may be half written
        complete = self._log.read_text().split("\n")[:-1]
        lines: list[dict[str, Any]] = [
            json.loads(line) if line.startswith("{") else {"error": line} for line in complete
        ]
        broken = [line["error"] for line in lines if "error" in line]
        if broken:
            raise HostError(f"the transfer {self.name} broke: {' '.join(broken)}")
        if self._process.poll() not in (None, 0):
            raise HostError(f"the reader of the transfer {self.name} ended with status {self._process.returncode}")
        return lines

    def received_bytes(self) -> int:
        return max((line["bytes"] for line in self.lines() if "bytes" in line), default=0)

    def received_between(self, begin_s: float, end_s: float) -> int:
        """Return how many bytes came between two moments of the monotonic clock, about: to some tenths of a second."""
        told = [line for line in self.lines() if "bytes" in line and "at" in line]
        until = {
            moment: max((line["bytes"] for line in told if line["at"] <= moment), default=0)
            for moment in (begin_s, end_s)
        }
        return until[end_s] - until[begin_s]

    def silences(self, since_s: float = 0.0) -> list[Silence]:
        """Return the pauses that began after a moment and are over."""
        noted = [Silence(line["began"], line["silence"]) for line in self.lines() if "silence" in line]
        return [silence for silence in noted if silence.began_s >= since_s]

    def longest_silence_s(self, since_s: float = 0.0) -> float:
        return max((silence.seconds for silence in self.silences(since_s)), default=0.0)

    def stop(self) -> int:
        """End it at the sender, wait for the last byte, and return how many bytes came: all of them and as sent.

        Raises HostError if the two ends differ, or if there was more than one request.
        """
        words = ["curl", "-sS", "--max-time", "10", "-X", "POST", "-d", "", f"http://127.0.0.1/stop/{self.name}"]
        self.server.run(words)
        wait_until(lambda: any("done" in line for line in self.lines()), 60, "the end of the stream")
        end = next(line for line in self.lines() if "done" in line)
        (sent,) = wait_until(self._accounts, 10, "the sender's account of the stream")
        if (sent["streamed"], sent["sha256"]) != (end["bytes"], end["sha256"]):
            raise HostError(f"the transfer {self.name} was spoilt on its way: sent {sent}, received {end}")
        asked = [visit for visit in self.server.web_log() if visit["path"].startswith(f"/stream/{self.name}/")]
        if len(asked) != 1:
            raise HostError(f"the transfer {self.name} took {len(asked)} connections: {asked}")
        return int(end["bytes"])

    def _accounts(self) -> list[dict[str, Any]]:
        """Return what the sender has said of this stream when it ended: nothing or one line."""
        return [line for line in self.server.web_lines() if line.get("name") == self.name]


class _Notes:
    """Writes what a reader saw, a line each."""

    def __init__(self) -> None:
        self._last = self._told = time.monotonic()

    def arrived(self, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= NOTED_SILENCE_S:
            _say(began=self._last, silence=now - self._last)
        if now - self._told >= _TELL_S:
            _say(at=now, bytes=total)
            self._told = now
        self._last = now


def _say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def fetch(url: str, headers: Mapping[str, str]) -> None:
    """Read a page to its end by one connection and write what came when."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_PATIENCE_S)
    digest, total, notes = hashlib.sha256(), 0, _Notes()
    try:
        connection.request("GET", parts.path, headers=dict(headers))
        response = connection.getresponse()
        if response.status != 200:
            _say(error=f"status {response.status}")
            return
        while piece := response.read1(_CHUNK_BYTES):
            digest.update(piece)
            total += len(piece)
            notes.arrived(total)
    except (OSError, http.client.HTTPException) as error:
        _say(error=f"{type(error).__name__}: {error} after {total} bytes")
        return
    finally:
        connection.close()
    _say(done=time.monotonic(), bytes=total, sha256=digest.hexdigest())


def main(arguments: list[str]) -> None:
    if len(arguments) < 2:
        sys.exit("usage: python -m wayhome.lab.transfer URL ['HEADER: VALUE']...")
    headers = (text.partition(": ") for text in arguments[2:])
    fetch(arguments[1], {key: value for key, _, value in headers})


if __name__ == "__main__":
    main(sys.argv)
