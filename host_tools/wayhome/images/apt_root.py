"""A private apt root: fetches packages of another Debian release and unpacks them into a folder, without root.

Mirror and signing key come from this machine's own apt sources: a local mirror is honoured, no host is named here.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCES = Path("/etc/apt/sources.list")
_SOURCES_FOLDER = Path("/etc/apt/sources.list.d")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# A release's other name, under which a mirror that is amid its sync may still have a whole index of it.
_ALIASES = {"trixie": "stable"}
_DEBIAN_SUITES = re.compile(r"(bullseye|bookworm|trixie|forky|sid|stable|testing|unstable)$")


class NoDebianMirror(Exception):
    """This machine's apt sources name no Debian mirror, so packages of Debian cannot be fetched."""

    def __init__(self) -> None:
        super().__init__(
            "no Debian mirror in /etc/apt; on Debian, restore the sources and run 'apt-get update'. "
            "On Ubuntu the demo and the CPython tests work without it."
        )


class FetchFailed(Exception):
    """apt or dpkg-deb refused; the text is what it printed last."""


@dataclass(frozen=True)
class Mirror:
    """Where Debian comes from: the archive's base address and the key file or key block that signs it."""

    address: str
    signed_by: str


def debian_mirror(sources: Path = _SOURCES, folder: Path = _SOURCES_FOLDER) -> Mirror:
    """Return the first mirror of a plain Debian suite in the apt sources; raises NoDebianMirror."""
    files = [sources, *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))]
    for path in files:
        if not path.is_file():
            continue
        text = path.read_text()
        mirror = _from_deb822(text) if path.suffix == ".sources" else _from_one_line(text)
        if mirror is not None:
            return mirror
    raise NoDebianMirror


def _from_one_line(text: str) -> Mirror | None:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+.*\bmain\b", line.strip())
        if match and _DEBIAN_SUITES.match(match[3]):
            options = dict(part.split("=", 1) for part in (match[1] or "").split() if "=" in part)
            return Mirror(match[2], options.get("signed-by", str(_KEYRING)))
    return None


def _from_deb822(text: str) -> Mirror | None:
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith(" "))
        suites = fields.get("Suites", "").split()
        if "main" in fields.get("Components", "").split() and any(_DEBIAN_SUITES.match(s) for s in suites):
            return Mirror(fields["URIs"].split()[0], fields.get("Signed-By", str(_KEYRING)).strip() or str(_KEYRING))
    return None


class AptRoot:
    """apt state of its own below one folder, for one suite and architecture; nothing of the system's is touched."""

    def __init__(self, folder: Path, suite: str, architecture: str = "amd64") -> None:
        self._folder = folder
        self._suite = suite
        self._architecture = architecture

    def fetch(self, packages: list[str]) -> list[Path]:
        """Download exactly these packages (no dependencies); return their .deb files in the order asked.

        Raises NoDebianMirror, or FetchFailed with apt's last words. Files already here are not fetched again.
        """
        options = self._update()
        archive = self._folder / "archive"
        archive.mkdir(exist_ok=True)
        self._run(["apt-get", *options, "-q", "download", *packages], cwd=archive)
        return [self._newest(archive, package) for package in packages]

    def dependencies(self, package: str, beginning: str) -> list[str]:
        """Return those packages that a package depends on whose names begin so: what a metapackage stands for.

        Raises NoDebianMirror, or FetchFailed if there is none.
        """
        options = self._update()
        text = self._run(["apt-cache", *options, "depends", "--important", package])
        names = re.findall(r"Depends: (\S+)", text)
        found = [name for name in names if name.startswith(beginning)]
        if not found:
            raise FetchFailed(f"{package} of {self._suite}/{self._architecture} depends on no {beginning}*")
        return found

    def unpack(self, debs: list[Path], into: Path) -> None:
        """Unpack into a folder that appears whole or not at all."""
        partial = into.with_name(into.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for deb in debs:
            self._run(["dpkg-deb", "-x", str(deb), str(partial)])
        shutil.rmtree(into, ignore_errors=True)
        partial.rename(into)

    def _update(self) -> list[str]:
        """Get the index; return apt's options for this folder."""
        try:
            options = self._prepare(self._suite)
            self._run(["apt-get", *options, "-q", "update"])
        except FetchFailed:
            alias = _ALIASES.get(self._suite)
            if alias is None:
                raise
            options = self._prepare(alias)
            self._run(["apt-get", *options, "-q", "update"])
            releases = [path.read_text() for path in (self._folder / "lists").glob(f"*_dists_{alias}_InRelease")]
            if not any(f"\nCodename: {self._suite}\n" in text for text in releases):
                raise
        return options

    def _prepare(self, suite: str) -> list[str]:
        mirror = debian_mirror()
        folder = self._folder.resolve()
        for part in ("lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d", "etc/trusted.d"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "etc/sources.list").write_text(
            f"deb [arch={self._architecture} signed-by={mirror.signed_by}] {mirror.address} {suite} main\n"
        )
        settings = {
            "Dir::State": folder,
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "etc/sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": folder / "etc/preferences.d",
            "Dir::Etc::trustedparts": folder / "etc/trusted.d",
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            # apt drops to its own user for downloads, which may not read a checkout below somebody's home
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def _newest(self, archive: Path, package: str) -> Path:
        found = sorted(archive.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise FetchFailed(f"apt fetched no {package} for {self._suite}/{self._architecture}; see {archive}")
        return found[-1]

    @staticmethod
    def _run(command: list[str], cwd: Path | None = None) -> str:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            last_words = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise FetchFailed(f"{command[0]} failed: {' '.join(last_words)}")
        return done.stdout
