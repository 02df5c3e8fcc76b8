from shared.side_by_side import crowd  # noqa: F401
