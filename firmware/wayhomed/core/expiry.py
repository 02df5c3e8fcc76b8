"""How long the node's key is valid, and when to say so: weeks before it ends, ever more often.

A router in somebody's attic whose key has run out can't be reached to renew it; so it must be heard of in time.
"""

from wayhomed.port import const

_DAY_S = const(86_400)
# Chosen by us: days left at which the warning is repeated
WARNED_DAYS = (28, 14, 7, 3, 1)
RENEW = "wayhomectl up --renew-key"
EXPIRED = "the node key has expired: peers refuse this machine until it is renewed; run: wayhomectl up"


def days_left(expiry_s: int, now_s: int) -> int:
    """Return the days that a key is still valid, rounded up; 0: not any more. Both times in seconds since 1970."""
    return -((now_s - expiry_s) // _DAY_S) if expiry_s > now_s else 0


def step(expiry_s: int, now_s: int) -> int | None:
    """Return which warning is due: the smallest of WARNED_DAYS that is not less than the days left, 0 once it is over.

    None while no warning is due: the key lasts longer, never ends (expiry_s 0), or nobody knows the time (now_s 0).
    """
    if not expiry_s or not now_s:
        return None
    left = days_left(expiry_s, now_s)
    due = None
    for days in WARNED_DAYS + (0,):
        if left <= days:
            due = days
    return due


def words(expiry_s: int, now_s: int) -> str:
    """Return the warning for people, "" while none is due."""
    due = step(expiry_s, now_s)
    if due is None:
        return ""
    if not due:
        return EXPIRED
    left = days_left(expiry_s, now_s)
    return "the node key expires in %s; renew it in time, on this machine: %s" % (
        "less than a day" if left <= 1 else "%d days" % left,
        RENEW,
    )
