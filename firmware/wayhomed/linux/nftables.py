"""nftables through libnftables: commands as text, each call one atomic batch. Source: libnftables(3)."""

import json

from wayhomed.port import ffi

from .errors import DataPlaneError

_LIBRARY = ("libnftables.so.1",)
_OUTPUT_JSON = 16


class Nftables:
    """An open libnftables."""

    def __init__(self, as_json: bool = True):
        """as_json: in which form lists are printed. Raises DataPlaneError where there is no libnftables."""
        try:
            library = ffi.open_library(_LIBRARY)
        except OSError:
            raise DataPlaneError("libnftables is missing; install the package libnftables1 (Debian) or nftables-json")
        self._run = library.func("i", "nft_run_cmd_from_buffer", "ps")
        self._output = library.func("s", "nft_ctx_get_output_buffer", "p")
        self._error = library.func("s", "nft_ctx_get_error_buffer", "p")
        self._free = library.func("v", "nft_ctx_free", "p")
        self._context = library.func("p", "nft_ctx_new", "I")(0)
        library.func("v", "nft_ctx_output_set_flags", "pI")(self._context, _OUTPUT_JSON if as_json else 0)
        library.func("i", "nft_ctx_buffer_output", "p")(self._context)
        library.func("i", "nft_ctx_buffer_error", "p")(self._context)

    def run(self, commands: str) -> str:
        """Run a batch, all of it or none; return what it printed (JSON). Raises DataPlaneError with nft's own words."""
        failed = self._run(self._context, commands)
        printed = self._output(self._context)
        complaint = self._error(self._context)
        if failed:
            raise DataPlaneError("nftables refused the rules: " + (complaint or "no reason given").strip()[:500])
        return printed or ""

    def table_exists(self, family: str, name: str) -> bool:
        for item in json.loads(self.run("list tables"))["nftables"]:
            if item.get("table") and (item["table"]["family"], item["table"]["name"]) == (family, name):
                return True
        return False

    def counters(self, family: str, table: str) -> dict:
        """Return {name: (packets, bytes)} of a table's named counters."""
        found = {}
        for item in json.loads(self.run("list counters table %s %s" % (family, table)))["nftables"]:
            counter = item.get("counter")
            if counter:
                found[counter["name"]] = (counter["packets"], counter["bytes"])
        return found

    def close(self) -> None:
        if self._context is not None:
            self._free(self._context)
            self._context = None
