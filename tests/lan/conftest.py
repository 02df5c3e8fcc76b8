from shared.story import coordinator, lab  # noqa: F401
