"""Whose a foreign rule is, by the names that programs give their tables and chains, and what to do there to mend it."""

from .foreign_rules import Blame

FIREWALLD, UFW, DOCKER, FW4, IPTABLES, NFT = "firewalld", "ufw", "Docker", "OpenWrt's fw4", "iptables", "nftables"


def owner(blame: Blame, names: set) -> str:
    """Return the program whose rule it is. names: {(family, table, chain)} of all foreign chains."""
    return owner_of(blame.family, blame.table, names)


def owner_of(family: str, table: str, names: set) -> str:
    if table == "firewalld":
        return FIREWALLD
    if table == "fw4":
        return FW4
    if family == "inet" or table not in ("filter", "mangle", "raw", "security"):
        return NFT
    chains = [chain for of_family, of_table, chain in names if (of_family, of_table) == (family, table)]
    if [chain for chain in chains if chain.startswith("ufw-") or chain.startswith("ufw6-")]:
        return UFW
    if "DOCKER-USER" in chains:
        return DOCKER
    return IPTABLES if "FORWARD" in chains or "INPUT" in chains else NFT


def mend_forwarding(program: str, blame: Blame, tunnel: str) -> str:
    """Return the command that lets packets between tunnel and LAN through."""
    if program == UFW:
        return "ufw route allow in on %s" % tunnel
    if program == FIREWALLD:
        return "firewall-cmd --permanent --zone=trusted --add-interface=%s && firewall-cmd --reload" % tunnel
    if program == FW4:
        return (
            "uci add firewall zone && uci set firewall.@zone[-1].name=mesh && "
            "uci set firewall.@zone[-1].device=%s && uci set firewall.@zone[-1].input=ACCEPT && "
            "uci set firewall.@zone[-1].output=ACCEPT && uci set firewall.@zone[-1].forward=ACCEPT && "
            "uci add firewall forwarding && uci set firewall.@forwarding[-1].src=mesh && "
            "uci set firewall.@forwarding[-1].dest=lan && uci commit firewall && service firewall restart" % tunnel
        )
    if program in (DOCKER, IPTABLES):
        chain = "DOCKER-USER" if program == DOCKER else "FORWARD"
        insert = "%s -I %s" % (_iptables(blame), chain)
        return "%s -i %s -j ACCEPT && %s -o %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT" % (
            insert,
            tunnel,
            insert,
            tunnel,
        )
    insert = "nft 'insert rule %s %s %s " % (blame.family, blame.table, blame.base)
    return '%siifname "%s" accept\' && %soifname "%s" ct state established,related accept\'' % (
        insert,
        tunnel,
        insert,
        tunnel,
    )


def mend_port(program: str, blame: Blame, port: int) -> str:
    """Return the command that lets WireGuard's packets in from the internet."""
    if program == UFW:
        return "ufw allow %d/udp" % port
    if program == FIREWALLD:
        return "firewall-cmd --permanent --add-port=%d/udp && firewall-cmd --reload" % port
    if program == FW4:
        return (
            "uci add firewall rule && uci set firewall.@rule[-1].name=Allow-WireGuard && "
            "uci set firewall.@rule[-1].src=wan && uci set firewall.@rule[-1].proto=udp && "
            "uci set firewall.@rule[-1].dest_port=%d && uci set firewall.@rule[-1].target=ACCEPT && "
            "uci commit firewall && service firewall restart" % port
        )
    if program in (DOCKER, IPTABLES):
        return "%s -I INPUT -p udp --dport %d -j ACCEPT" % (_iptables(blame), port)
    return "nft 'insert rule %s %s %s udp dport %d accept'" % (blame.family, blame.table, blame.base, port)


def _iptables(blame: Blame) -> str:
    return ("ip6tables" if blame.family.endswith("6") else "iptables") + (
        "-legacy" if blame.family.startswith("legacy") else ""
    )


def mend_deleting(name: str) -> str:
    """Return what keeps a program of this name from deleting our table again."""
    if name == "nft":
        return "a script or service flushes all tables (`flush ruleset`): have it delete its own table alone"
    return "see why this program flushes all of nftables, and have it delete its own table alone"
