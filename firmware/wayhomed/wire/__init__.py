"""Bytes <-> messages, pure: no sockets, no clock, no randomness of its own.

Decoders take bytes as they came, cut anywhere; whatever a stranger sends, they raise `errors.BadWire` and nothing else,
and they check an announced length before they hold anything of that size.
"""
