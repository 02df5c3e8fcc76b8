"""DNS names in the mesh: one label under the suffix for each node and each published device. Source: RFC 1035, 1123."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

from .errors import RegistryError

LABEL_MAX = 63
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}")
_TAG = re.compile(r"tag:[a-z][a-z0-9-]{0,49}")
# Names that programs look up by themselves in every search domain: a device called "wpad" would be handed the proxy
# settings of the whole mesh.
_NEVER = frozenset({"localhost", "wpad", "isatap"})


def label_from(hostname: str) -> str:
    """The label that a client's host name asks for: "Änna's iPhone" -> "anna-s-iphone"; "node" if nothing is left."""
    plain = unicodedata.normalize("NFKD", hostname[:255]).encode("ascii", "ignore").decode().lower()
    first = plain.split(".", 1)[0] or plain
    label = re.sub(r"[^a-z0-9]+", "-", first).strip("-")[:LABEL_MAX].rstrip("-")
    if label.isdigit():
        label = f"node-{label[: LABEL_MAX - 5]}"  # see check_label
    return label or "node"


def unique_label(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or the first of wanted-1, wanted-2, ... that nobody has; never longer than a label may be."""
    if wanted not in taken and wanted not in _NEVER:
        return wanted
    number = 1
    while True:
        ending = f"-{number}"
        label = wanted[: LABEL_MAX - len(ending)].rstrip("-") + ending
        if label not in taken:
            return label
        number += 1


def check_label(name: str) -> str:
    """A name that a person chose, in lower case. Raises RegistryError if it can't be a DNS label."""
    label = name.lower()
    if not _LABEL.fullmatch(label):
        raise RegistryError(
            f'"{name[:80]}" cannot be a DNS name: use 1 to {LABEL_MAX} letters, digits and hyphens, '
            f'not a hyphen at either end; for instance "{label_from(name)}"'
        )
    if label.isdigit():
        # Browsers and resolvers take "7" for the address 0.0.0.7, and commands for a node's id.
        raise RegistryError(f'"{label}" is a number, which programs take for an address; put a letter into the name')
    if label in _NEVER:
        raise RegistryError(f'"{label}" is a name that computers look up by themselves; choose another')
    return label


# Top-level names that nobody registers anything below: for use inside networks.
PRIVATE_TOPS = frozenset({"corp", "example", "home", "internal", "intranet", "lan", "private", "test"})


def check_suffix(suffix: str) -> str:
    """The mesh's DNS suffix in lower case, without dots at its ends. Raises RegistryError."""
    plain = suffix.strip(".").lower()
    if len(plain) > 180 or not plain or not all(_LABEL.fullmatch(label) for label in plain.split(".")):
        raise RegistryError(f'"{suffix[:200]}" cannot be a DNS suffix; use one like "wayhome.internal"')
    return plain


def check_user(name: str) -> str:
    if not _USER.fullmatch(name):
        raise RegistryError(
            f'"{name[:80]}" cannot be a user name: use up to 128 letters, digits and . _ + @ -, a letter or digit first'
        )
    return name


def check_tag(tag: str) -> str:
    """A tag with its prefix: "router" and "tag:router" -> "tag:router". Raises RegistryError."""
    whole = tag if tag.startswith("tag:") else f"tag:{tag}"
    if not _TAG.fullmatch(whole):
        raise RegistryError(f'"{tag[:80]}" cannot be a tag: use tag: and then small letters, digits and hyphens')
    return whole
