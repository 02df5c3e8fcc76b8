"""What a command of the local API can't do."""


class Refused(Exception):
    """What the user asked for can't be done: why, and what to do next; `again`: it may well work a moment later.

    by: the way that a ping was sent in vain, if it is the one through the tunnel.
    """

    def __init__(self, text: str, next_step: str, again: bool = False, by: str = ""):
        super().__init__(text)
        self.answer: dict = {"error": text, "next": next_step}
        if again:
            self.answer["again"] = True
        if by:
            self.answer["by"] = by
