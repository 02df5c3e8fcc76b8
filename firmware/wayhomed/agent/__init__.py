"""The daemon: control session, data path, relay links, state on disk, local API; no protocol rule lives here."""
