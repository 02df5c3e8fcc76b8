"""The host's part of Wayhome: coordinator, relay, and the tools for labs and boards. CPython 3.11 and later."""
