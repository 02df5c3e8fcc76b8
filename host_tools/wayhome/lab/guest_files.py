"""What a guest boots from: a kernel, and an initramfs with the kernel's modules, a MicroPython and the agent.

The guest's own root is one of two. HOST is the host's: read-only, by 9p, with a layer of memory on top, so that the
checkout, its tests and all programs of the host are there at the same paths, and what is written goes with the guest.
BOARD is a small tree of Debian packages with the board's daemon, the same for each architecture.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..images import kernel, micropython
from ..images.apt_root import AptRoot

_HERE = Path(__file__).parent
_SUITE = "trixie"


class Root(Enum):
    HOST = "host"
    BOARD = "board"


HOST = Root.HOST
BOARD = Root.BOARD

# Loaded when the guest boots: nothing in it asks for modules by name. Their order matters: crc32c before its users.
_MODULES = """
crc32c_generic overlay virtio_net virtio_rng virtio_blk ext4
wireguard tun veth bridge dummy macvlan ifb vrf 8021q sch_netem sch_tbf sch_fq_codel sch_ingress
cls_u32 act_mirred
nf_tables nf_conntrack_netlink nft_ct nft_chain_nat nft_nat nft_masq nft_redir nft_log nft_limit nft_quota nft_reject
nft_reject_inet nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 nft_hash nft_numgen nft_connlimit nft_socket nft_tproxy nft_queue
nft_flow_offload nft_synproxy nft_tunnel nft_xfrm nf_flow_table nf_flow_table_inet nf_log_syslog nfnetlink_log
nft_dup_ipv4
inet_diag tcp_diag udp_diag raw_diag unix_diag af_packet_diag netlink_diag
""".split()  # noqa: SIM905
_MACHINE_MODULES = {"amd64": ["i6300esb"], "arm64": []}
_HOST_MODULES = ["9p", "9pnet_virtio"]
_AGENT_LIBRARIES = ["libc.so.6", "libm.so.6", "libffi.so.8", "libmbedtls.so.21", "libmbedx509.so.7"]
_AGENT_LIBRARIES += ["libmbedcrypto.so.16"]
_BOARD_PACKAGES = ["busybox-static", "dash", "iproute2", "libbpf1", "libelf1t64", "zlib1g", "libzstd1", "libcap2"]
_BOARD_PACKAGES += ["libtirpc3t64", "libselinux1", "libpcre2-8-0", "nftables", "wireguard-tools", "libxtables12"]


_FOLDERS = [
    "dev",
    "etc",
    "guest",
    "guest/lib",
    "modules",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr",
    "usr/sbin",
]
_FOLDERS += ["var", "var/lib"]


@dataclass(frozen=True)
class Files:
    kernel: Path
    initramfs: Path


def prepare(build: Path, architecture: str, root: Root) -> Files:
    """Return what QEMU boots, made anew where something it is made of has changed; `build` keeps it.

    Raises NoDebianMirror or FetchFailed (apt_root).
    """
    booted = kernel.fetch(build, architecture)
    python = micropython.fetch(build, architecture)
    place = build / f"guest-{architecture}"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = _fetch_packages(place, architecture, root)
        initramfs = place / f"{root.value}-{_digest(booted, root)}.cpio"
        if not initramfs.is_file():
            for old in place.glob(f"{root.value}-*.cpio"):
                old.unlink()
            partial = initramfs.with_suffix(".partial")
            partial.write_bytes(_archive(_entries(booted, python, packages, architecture, root)))
            partial.rename(initramfs)
    return Files(booted.image, initramfs)


def _fetch_packages(place: Path, architecture: str, root: Root) -> Path:
    wanted = _BOARD_PACKAGES if root == BOARD else _BOARD_PACKAGES[:1]
    tree = place / f"packages-{root.value}"
    listing = place / f"packages-{root.value}.list"
    if not (tree.is_dir() and listing.is_file() and listing.read_text() == "\n".join(wanted)):
        apt = AptRoot(place / "apt", _SUITE, architecture)
        (place / "apt").mkdir(exist_ok=True)
        apt.unpack(apt.fetch(wanted), tree)
        listing.write_text("\n".join(wanted))
    return tree


def _digest(booted: kernel.Kernel, root: Root) -> str:
    """Return a name for all that may change between two calls: the programs of this checkout and the kernel."""
    made_from = hashlib.sha256(booted.release.encode())
    sources = [_HERE / "guest_files.py", _HERE / "guest_agent.py", _HERE / "guest_init.sh"]
    for path in sources:
        made_from.update(f"{path}\n".encode() + path.read_bytes())
    return made_from.hexdigest()[:16]


@dataclass(frozen=True)
class _Entry:
    """One file of the archive. mode has the type's bits; device: major and minor number."""

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def _entries(booted: kernel.Kernel, python: Path, packages: Path, architecture: str, root: Root) -> Iterator[_Entry]:
    if root == BOARD:
        yield from _tree(packages)
        yield from _tree(python)
        for link in ("bin", "sbin", "lib", "lib64"):
            yield _Entry(link, stat.S_IFLNK | 0o777, f"usr/{link}".encode())
    for folder in _FOLDERS:
        yield _Entry(folder, stat.S_IFDIR | 0o755)
    yield _Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield _Entry("init", stat.S_IFREG | 0o755, (_HERE / "guest_init.sh").read_bytes())
    yield _Entry("guest/busybox", stat.S_IFREG | 0o755, (packages / "usr/bin/busybox").read_bytes())
    yield _Entry("guest/agent.py", stat.S_IFREG | 0o644, (_HERE / "guest_agent.py").read_bytes())
    yield _Entry("guest/root", stat.S_IFREG | 0o644, f"{root.value}\n".encode())
    yield _Entry("guest/micropython", stat.S_IFREG | 0o755, (python / "usr/bin/micropython").read_bytes())
    libraries, loader = micropython.libraries(python, architecture)
    for source, name in [(loader, "loader"), *((libraries / name, f"lib/{name}") for name in _AGENT_LIBRARIES)]:
        yield _Entry(f"guest/{name}", stat.S_IFREG | 0o755, source.read_bytes())
    order = []
    wanted = [*_MODULES, *_MACHINE_MODULES[architecture], *(_HOST_MODULES if root == HOST else [])]
    for name, content in booted.modules_for(wanted):
        order.append(name)
        yield _Entry(f"modules/{name}.ko", stat.S_IFREG | 0o644, content)
    yield _Entry("modules/order", stat.S_IFREG | 0o644, ("\n".join(order) + "\n").encode())


def _tree(top: Path, prefix: str = "") -> Iterator[_Entry]:
    """Give all below a folder, but for what Python left there; documents are of no use to a guest."""
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", "doc", "man", "locale"))
        at = Path(folder).relative_to(top)
        yield _Entry(f"{prefix}{at}", stat.S_IFDIR | 0o755)
        for name in sorted(names + [name for name in folders if Path(folder, name).is_symlink()]):
            path = Path(folder, name)
            if path.is_symlink():
                yield _Entry(f"{prefix}{at / name}", stat.S_IFLNK | 0o777, os.readlink(path).encode())
            else:
                mode = stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644)
                yield _Entry(f"{prefix}{at / name}", mode, path.read_bytes())


def _archive(entries: Iterator[_Entry]) -> bytes:
    """Return a cpio archive as the kernel reads it.

    Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    archive = bytearray()
    for number, entry in enumerate([*entries, _Entry("TRAILER!!!", 0)], 1):
        path = entry.path.encode() + b"\0"
        fields = [number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, *entry.device, len(path), 0]
        archive += b"070701" + b"".join(b"%08x" % field for field in fields) + path
        archive += bytes(-len(archive) % 4) + entry.content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
