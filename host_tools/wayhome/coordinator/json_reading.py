"""Reading the JSON of strangers: names without regard to case, bounded depth, typed, and a path to the fault.

Real clients write `HostInfo`, `IpnVersion`, `PreferredDerp` where the protocol says `Hostinfo`, `IPNVersion`,
`PreferredDERP`; the stock server reads names without regard to case. msgspec matches exactly, so names are folded to
the protocol's spelling first. Unknown names are left as they are: ignored, or (in Hostinfo) kept as they came.

Source: protocol reference, "JSON and encoding rules" and "Hostinfo and NetInfo".
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

DEPTH = 16  # Hostinfo.NetInfo.DERPLatency is 4 deep; the rest of what clients send is flatter


class BadRequest(Exception):
    """A request that we cannot read or will not serve. The text names the place and goes to the client."""


class Shape:
    """How the names of one JSON object are spelt, and which of its values have a shape of their own."""

    __slots__ = ("_spelling", "_within")

    def __init__(self, names: str, within: "Mapping[str, Shape] | None" = None) -> None:
        self._within = dict(within or {})
        self._spelling: dict[str, str] = {name.lower(): name for name in [*names.split(), *self._within]}

    def fold(self, value: Any) -> Any:
        """Return the object with names spelt as the protocol does; an exact name wins over a differently spelt one."""
        if not isinstance(value, dict):
            return value
        folded: dict[str, Any] = {}
        name: str
        for name, item in value.items():
            spelt = self._spelling.get(name.lower(), name)
            if spelt != name and spelt in value:
                continue
            within = self._within.get(spelt)
            folded[spelt] = within.fold(item) if within is not None else item
        return folded


NET_INFO = Shape(
    "MappingVariesByDestIP WorkingIPv6 OSHasIPv6 WorkingUDP WorkingICMPv4 UPnP PMP PCP HavePortMap PreferredDERP "
    "LinkType DERPLatency FirewallMode"
)
HOSTINFO = Shape(
    "IPNVersion FrontendLogID BackendLogID OS OSVersion Container Env Distro DistroVersion DistroCodeName App Desktop"
    " Package DeviceModel PushDeviceToken Hostname ShieldsUp ShareeNode NoLogsNoSupport RemoteConfig WireIngress"
    " IngressEnabled AllowsUpdate Machine GoArch GoArchVar GoVersion RoutableIPs RequestTags WoLMACs Services"
    " sshHostKeys Cloud Userspace UserspaceRouter AppConnector ServicesHash PeerRelay ExitNodeID Location TPM"
    " StateEncrypted",
    {"NetInfo": NET_INFO},
)
REGISTER = Shape(
    "Version NodeKey OldNodeKey NLKey Expiry Followup Ephemeral NodeKeySignature SignatureType Timestamp DeviceCert"
    " Signature Tailnet",
    {"Hostinfo": HOSTINFO, "Auth": Shape("AuthKey Oauth2Token")},
)
MAP = Shape(
    "Version Compress KeepAlive NodeKey DiscoKey Stream MapSessionHandle MapSessionSeq Endpoints EndpointTypes TKAHead"
    " ReadOnly OmitPeers DebugFlags",
    {"Hostinfo": HOSTINFO},
)

T = TypeVar("T")


def read(body: bytes, shape: Shape, kind: type[T]) -> T:
    """Decode a request body into `kind`. Raises BadRequest, whose text names the field at fault."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise BadRequest("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("the body is not a JSON object")
    if _deeper_than(value, DEPTH):
        raise BadRequest(f"the JSON is nested deeper than {DEPTH} levels")
    try:
        return msgspec.convert(shape.fold(value), kind)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None


def _deeper_than(value: Any, levels: int) -> bool:
    """Tell whether containers nest deeper than this. No recursion: it goes level by level."""
    level: list[Any] = [value]
    for _ in range(levels):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True
