# Prints the kernel's packet filter as the libnftables of the Python sees it that runs this, in the shared subset.
import sys

sys.path.insert(0, __file__[: __file__.rfind("/")] + "/../../firmware")

from wayhomed.linux.nftables import Nftables

print(Nftables(as_json=False).run("list ruleset"))
