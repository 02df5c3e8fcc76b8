"""Takes secrets out of text that leaves the machine: those that are known, and whatever looks like one.

Left out are, whoever wrote them into a log line or a file: keys by their prefixes, the paths of links (one to let a
machine in is as good as a key), and long words without sense, which is what keys and tokens look like. Public keys
stay.
"""

from wayhomed.port import const
from wayhomed.wire import keys

LEFT_OUT = "(left out)"
_PUBLIC = (keys.NODE, keys.DISCO, keys.MACHINE)
# ours, and those of other control servers
_SECRET = (keys.PRIVATE, "wayhome-auth-", "tskey-", "hskey-", "nodekey-private", "Bearer:")
_LONG = const(32)  # characters: a third of a private key as hex, 192 bits as base64
_OF_WORDS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/_=-.:@%?&~"
_OF_KEYS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/_=-"


def without_secrets(text: str, secrets: list | tuple = ()) -> str:
    """Return a line of text without these secrets, and without what looks like one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, LEFT_OUT)
    made = []
    start = 0
    for at in range(len(text) + 1):
        if at < len(text) and text[at] in _OF_WORDS:
            continue
        made.append(_word_without(text[start:at]))
        made.append(text[at : at + 1])
        start = at + 1
    return "".join(made)


def _word_without(word: str) -> str:
    if len(word) < 8:
        return word
    for prefix in _SECRET:
        at = word.find(prefix)
        if at >= 0:
            return word[: at + len(prefix)] + LEFT_OUT
    at = word.find("://")
    if at > 0:
        host, slash, path = word[at + 3 :].partition("/")
        return word[: at + 3] + host[host.rfind("@") + 1 :].split("?")[0] + slash + (LEFT_OUT if path else "")
    for prefix in _PUBLIC:
        if prefix in word:
            return word
    return _without_long_runs(word)


def _without_long_runs(word: str) -> str:
    made = []
    start = 0
    for at in range(len(word) + 1):
        if at < len(word) and word[at] in _OF_KEYS:
            continue
        run = word[start:at]
        made.append(LEFT_OUT if len(run) >= _LONG and not _is_name(run) else run)
        made.append(word[at : at + 1])
        start = at + 1
    return "".join(made)


def _is_name(run: str) -> bool:
    """Tell whether a long run reads as words: pieces of letters in one case, digits behind them, or very short."""
    for separator in "/_=":
        run = run.replace(separator, "-")
    for piece in run.split("-"):
        letters = piece.rstrip("0123456789")
        is_word = letters.isalpha() and letters in (letters.lower(), letters.upper()) and len(piece) - len(letters) <= 3
        if len(piece) > 3 and (len(piece) >= 20 or not (is_word or (piece.isdigit() and len(piece) <= 10))):
            return False
    return True
