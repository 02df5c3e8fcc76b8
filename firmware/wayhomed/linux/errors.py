"""What goes wrong between the daemon and the kernel."""


class DataPlaneError(Exception):
    """The machine refused what the data plane needs. The text says what, and what to do about it."""
