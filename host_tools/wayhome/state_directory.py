"""Where a coordinator keeps its state, for the process that runs it and for the commands that speak to it."""

import os
from collections.abc import Mapping
from pathlib import Path

ENVIRONMENT = "WAYHOME_STATE"
SOCKET_NAME = "wayhome.sock"


def default_state_directory(environment: Mapping[str, str], user_id: int) -> Path:
    """Return $WAYHOME_STATE; without it /var/lib/wayhome for root and the user's own state folder for others.

    environment is `os.environ`, user_id is `os.getuid()`. `wayhome serve` and the commands that speak to it both ask
    here, so that they meet when nobody names a directory.
    """
    named = environment.get(ENVIRONMENT)
    if named:
        return Path(named)
    if user_id == 0:
        return Path("/var/lib/wayhome")
    # XDG Base Directory Specification: a relative $XDG_STATE_HOME is to be ignored
    state_home = environment.get("XDG_STATE_HOME", "")
    base = Path(state_home) if os.path.isabs(state_home) else Path(environment.get("HOME", "/")) / ".local" / "state"
    return base / "wayhome"
