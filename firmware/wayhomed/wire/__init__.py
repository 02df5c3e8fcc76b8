"""Bytes <-> messages of every protocol spoken here; pure, for both roles. One error family: errors.BadWire."""
