from shared.side_by_side import crowd  # noqa: F401
from shared.story import board, coordinator, lab  # noqa: F401
