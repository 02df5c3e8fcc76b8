"""nftables through libnftables: commands as text, each call one atomic batch. Source: libnftables(3)."""

import json

from wayhomed.port import ffi

from .errors import DataPlaneError

_LIBRARY = ("libnftables.so.1",)
_OUTPUT_JSON = 16


class Nftables:
    """libnftables, under MicroPython in memory only while a batch runs: else it were a fifth of what the daemon takes.

    Loading it costs less than a millisecond; a batch is run when the netmap, a path or somebody's curiosity changes.
    Where libraries stay in memory anyway it stays open.
    """

    def __init__(self, as_json: bool = True):
        """as_json: in which form lists are printed. Raises DataPlaneError where there is no libnftables."""
        self._flags = _OUTPUT_JSON if as_json else 0
        self._opened: tuple = ()  # the library and our context in it
        self._open()
        if ffi.LIBRARIES_CLOSE:
            self.close()

    def _open(self) -> None:
        try:
            library = ffi.open_library(_LIBRARY)
        except OSError:
            raise DataPlaneError("libnftables is missing; install the package libnftables1 (Debian) or nftables-json")
        context = library.func("p", "nft_ctx_new", "I")(0)
        self._opened = (library, context)
        library.func("v", "nft_ctx_output_set_flags", "pI")(context, self._flags)
        library.func("i", "nft_ctx_buffer_output", "p")(context)
        library.func("i", "nft_ctx_buffer_error", "p")(context)

    def run(self, commands: str) -> str:
        """Run a batch, all of it or none; return what it printed (JSON). Raises DataPlaneError with nft's own words."""
        if not self._opened:
            self._open()
        library, context = self._opened
        try:
            failed = library.func("i", "nft_run_cmd_from_buffer", "ps")(context, commands)
            printed = library.func("s", "nft_ctx_get_output_buffer", "p")(context)
            complaint = library.func("s", "nft_ctx_get_error_buffer", "p")(context)
        finally:
            if ffi.LIBRARIES_CLOSE:
                self.close()
        if failed:
            raise DataPlaneError("nftables refused the rules: " + (complaint or "no reason given").strip()[:500])
        return printed or ""

    def table_exists(self, family: str, name: str) -> bool:
        for item in json.loads(self.run("list tables"))["nftables"]:
            if item.get("table") and (item["table"]["family"], item["table"]["name"]) == (family, name):
                return True
        return False

    def flowtable_exists(self, family: str, table: str) -> bool:
        """Tell whether a table has a flowtable; a kernel that knows none has none."""
        try:
            listed = json.loads(self.run("list flowtables"))["nftables"]
        except DataPlaneError:
            return False
        for item in listed:
            if item.get("flowtable") and (item["flowtable"]["family"], item["flowtable"]["table"]) == (family, table):
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
        if self._opened:
            library, context = self._opened
            self._opened = ()
            library.func("v", "nft_ctx_free", "p")(context)
            ffi.close_library(library)
