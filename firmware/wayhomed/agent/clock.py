"""Keeps the time: asks the time servers, hears the coordinator, has the helper set the machine's clock, writes it down.

What is believed, and what the machine's clock needs, is decided in core.clock; here it is carried out.
"""

import asyncio
import json

from wayhomed.core import clock as clocks
from wayhomed.core import times
from wayhomed.core.clock import Do
from wayhomed.core.time_rounds import TimeRounds
from wayhomed.linux import time_servers
from wayhomed.port import const, net, packets, random_bytes, system_clock
from wayhomed.port.tasks import start, wait_for_event, within
from wayhomed.wire import address, json_text, ntp
from wayhomed.wire.errors import BadWire

from .state import StateError
from .version import BUILD_S

# Chosen by us
_LOOK_MS = const(60_000)  # at the machine's clock: another service may begin or cease to keep it
_ROUND_MS = const(2_000)
_LOOKUP_MS = const(5_000)
_MAX_SERVERS = const(8)
_ADDRESSES_OF_A_NAME = const(4)  # a pool's name gives several, who then have to agree
_HELPER_MS = const(5_000)
_HELPER_BYTES = const(4_096)
_DOUBTFUL_WAIT_MS = const(5_000)
_TOLD_OFF_MS = const(60_000)  # a machine's clock that is off by more is worth a line


class Settings:
    """servers: names or addresses of time servers, [] to ask none, None for those that the network offers; helper: its
    socket, "" for none; mark: the fwmark of our own sockets; machine: its clocks, as port.system_clock has them; port:
    of the time servers.
    """

    def __init__(self, servers=None, helper: str = "", mark: int = 0, machine=system_clock, port: int = ntp.PORT):
        self.servers = servers
        self.helper = helper
        self.mark = mark
        self.machine = machine
        self.port = port


class TimeKeeper:
    """The time as this daemon knows it.

    state keeps what is written down; tunnel_stands() tells whether WireGuard uses the machine's clock now;
    became_trusted() is called once, unless the time is trusted from the start.
    """

    def __init__(self, settings: Settings, state, log, tunnel_stands, became_trusted):
        self._settings = settings
        self._machine = settings.machine
        self._state = state
        self._log = log
        self._tunnel_stands = tunnel_stands
        self._became_trusted = became_trusted
        self._rounds = TimeRounds()
        self._news = asyncio.Event()
        self._round_over = asyncio.Event()  # one round, or one look that needed none
        self._trusted = asyncio.Event()
        self._one_helper = asyncio.Lock()
        self._helper_problem = ""
        self._told = ""
        self.problem = ""  # of the machine's clock, in words
        machine = self._machine
        saved = clocks.saved_from_json(state.load_time())
        self._clock = clocks.Clock(BUILD_S, saved, machine.boot_id(), machine.wall_ms(), machine.up_ms())
        if self._clock.trusted:
            self._trusted.set()

    # --- Questions ---

    @property
    def trusted(self) -> bool:
        return self._clock.trusted

    def now_s(self) -> int:
        """Return the best guess, in seconds since 1970."""
        return self._clock.now_ms(self._machine.up_ms()) // 1000

    def trusted_now_s(self) -> int:
        """Return seconds since 1970, 0 while nobody vouches for them."""
        return self._clock.trusted_now_s(self._machine.up_ms())

    def floor_s(self) -> int:
        """Return a time that has passed for sure."""
        return self._clock.floor_s()

    def is_right(self) -> bool:
        """Tell whether the machine's clock will do for TLS to judge dates by."""
        return self._clock.is_right(self._machine.wall_ms(), self._machine.up_ms())

    def status(self) -> dict:
        """Return what `wayhomectl status` shows, ready for JSON. off_ms: how far the machine's clock is ahead."""
        up_ms, wall_ms = self._machine.up_ms(), self._machine.wall_ms()
        return {
            "now_s": self._clock.now_ms(up_ms) // 1000,
            "trusted": self._clock.trusted,
            "by": self._clock.words(wall_ms, up_ms),
            "off_ms": wall_ms - self._clock.now_ms(up_ms),
            "problem": self.problem or self._clock.contradiction,
        }

    # --- What happens elsewhere ---

    def coordinator_told(self, time_s: int, vouched: bool) -> None:
        """Take the coordinator's time. vouched: its key came by a certificate whose dates were checked, or long ago."""
        if not time_s:
            return
        up_ms = self._machine.up_ms()
        if vouched:
            believed = self._clock.coordinator_told(time_s, up_ms)
        else:
            # As good as a time server that nobody vouches for: others may overrule it, or the coordinator itself later.
            believed = not self.trusted and self._clock.servers_agreed(time_s * 1000, 1, up_ms)
        if believed:
            self._changed()

    def uplink_changed(self) -> None:
        """Ask the time servers anew if nobody was there to ask before."""
        if not self.trusted:
            self._rounds.now()
            self._news.set()

    async def wait_for_trust(self, timeout_ms: int) -> None:
        """Return once the time is trusted, nobody who was asked could tell it, or it is too late; at once with a clock
        that may be right.
        """
        if self._clock.is_floor(self._machine.wall_ms()):
            await wait_for_event(self._round_over, timeout_ms)

    async def until_trusted(self) -> None:
        await self._trusted.wait()

    async def before_tunnel(self) -> None:
        """Set the machine's clock while it can still be set back; with a doubtful one wait a little for better news."""
        await self._adjust()
        if self._clock.is_doubtful(self._machine.wall_ms()):
            await wait_for_event(self._trusted, _DOUBTFUL_WAIT_MS)
            await self._adjust()

    # --- The loop ---

    async def run(self) -> None:
        """Never returns; ends by cancellation, and then writes the time down."""
        try:
            while True:
                self._news.clear()
                self._look_for_service()
                if self._servers_are_asked() and not self._rounds.due_ms(self._machine.up_ms()):
                    await self._ask_servers()
                self._round_over.set()
                await self._adjust()
                await self._save_if_due()
                await wait_for_event(self._news, self._wait_ms())
        finally:
            if self.trusted:
                self._save()

    def _wait_ms(self) -> int:
        wait_ms = _LOOK_MS
        if self._servers_are_asked():
            wait_ms = min(wait_ms, self._rounds.due_ms(self._machine.up_ms()))
        return max(1, wait_ms)

    def _servers_are_asked(self) -> bool:
        return self._settings.servers != [] and self._clock.trust != clocks.Trust.SERVICE

    def _look_for_service(self) -> None:
        if self._machine.is_kept():
            if self._clock.service_keeps(self._machine.wall_ms(), self._machine.up_ms()):
                self._changed()
        else:
            self._clock.service_is_gone()

    def _changed(self) -> None:
        """Tell, once, that the time is trusted."""
        if self._trusted.is_set():
            return
        self._trusted.set()
        self._round_over.set()
        self._news.set()
        up_ms, wall_ms = self._machine.up_ms(), self._machine.wall_ms()
        self._log.info(
            "the time is known: %s, by %s"
            % (times.text_from_seconds(self._clock.now_ms(up_ms) // 1000), self._clock.words(wall_ms, up_ms))
        )
        self._became_trusted()

    # --- Time servers ---

    async def _ask_servers(self) -> None:
        answers = []
        servers = await self._addresses()
        if servers:
            try:
                answers = await self._ask_round(servers)
            except OSError as error:
                self._log.debug("asking the time servers: %s" % error)
        up_ms = self._machine.up_ms()
        found = clocks.agreed(answers, up_ms)
        if found is None and len(answers) > 1:
            self._tell_once("the time servers contradict each other; none of them is believed")
        elif found is not None:
            if self._clock.servers_agreed(found[0], found[1], up_ms):
                self._changed()
            elif not self.trusted:
                self._tell_once(
                    "the time servers say %s, which can't be; they are not believed"
                    % times.text_from_seconds(max(found[0] // 1000, 1))
                )
            elif self._clock.contradiction:
                self._tell_once(self._clock.contradiction)
        self._rounds.ended(self.trusted and found is not None, up_ms, random_bytes(1)[0])

    async def _addresses(self) -> list:
        """Return the endpoints of the servers to ask."""
        ips: list = []
        if self._settings.servers is None:
            ips = time_servers.offered()
        else:
            for name in self._settings.servers:
                try:
                    ips += (await net.resolve(name, _LOOKUP_MS))[:_ADDRESSES_OF_A_NAME]
                except OSError as error:
                    self._log.debug("the time server %s: %s" % (name, error.args[-1]))
        found: list = []
        for ip in ips:
            server = (ip, self._settings.port)
            if server not in found and self._rounds.may_ask(server, self._machine.up_ms()):
                found.append(server)
        return found[:_MAX_SERVERS]

    async def _ask_round(self, servers: list) -> list:
        """Ask each once; return the Samples of those that answered in time."""
        sockets: list = []
        asked: dict = {}
        samples: list = []
        try:
            for length, open_socket in ((4, packets.udp_socket), (16, packets.udp_socket6)):
                ours = [server for server in servers if len(server[0]) == length]
                if ours:
                    self._send_questions(open_socket, ours, sockets, asked)
            if not asked:
                return []
            heard = asyncio.Event()
            tasks = [start(self._listen(socket, asked, samples, heard)) for socket in sockets]
            try:
                await wait_for_event(heard, _ROUND_MS)
            finally:
                for task in tasks:
                    task.cancel()
                for task in tasks:
                    try:
                        await task
                    except asyncio.CancelledError:
                        pass
        finally:
            for socket in sockets:
                socket.close()
        return samples

    def _send_questions(self, open_socket, servers: list, sockets: list, asked: dict) -> None:
        try:
            socket = open_socket()
        except OSError:
            return  # a kernel without IPv6
        sockets.append(socket)
        if self._settings.mark:
            packets.set_mark(socket, self._settings.mark)
        for server in servers:
            nonce = random_bytes(ntp.NONCE_BYTES)
            sent_ms = self._machine.up_ms()
            try:
                socket.sendto(ntp.encode_request(nonce), packets.inet_address(server[0], server[1]))
            except OSError:
                continue  # no way leads there
            asked[server] = (nonce, sent_ms)

    async def _listen(self, socket, asked: dict, samples: list, heard) -> None:
        """Take answers until all of the asked have said something."""
        while asked:
            await packets.wait_readable(socket)
            try:
                datagram, server = packets.receive_from(socket, ntp.MAX_ANSWER_BYTES + 1)
            except OSError:
                continue  # a checksum that was wrong
            if server not in asked:
                continue
            nonce, sent_ms = asked[server]
            now_ms = self._machine.up_ms()
            try:
                answer = ntp.decode_answer(datagram, nonce, BUILD_S)
            except BadWire as error:
                self._log.debug("the time server %s: %s" % (address.ip_text(server[0]), error))
                continue  # perhaps not from it: the real answer may still come
            del asked[server]
            if answer.refusal:
                self._rounds.refused(server, answer.refusal, now_ms)
                self._log.info("the time server %s refuses us: %s" % (address.ip_text(server[0]), answer.refusal))
            else:
                taken = clocks.sample(answer, sent_ms, now_ms)
                if taken is not None:
                    samples.append(taken)
        heard.set()

    # --- The machine's clock ---

    async def _adjust(self) -> None:
        """Have the helper do what the machine's clock needs."""
        async with self._one_helper:
            up_ms, wall_ms = self._machine.up_ms(), self._machine.wall_ms()
            do, value_ms = self._clock.advice(wall_ms, up_ms, self._tunnel_stands())
            if do == Do.NOTHING:
                self.problem = ""
                return
            now_ms = self._clock.now_ms(up_ms)
            off = "this machine's clock is %s" % _off(wall_ms - now_ms)
            if do == Do.LEAVE:
                self.problem = (
                    off
                    + "; "
                    + (
                        "it can't go back while the tunnel stands, and is right after the machine's next start"
                        if value_ms < 0
                        else "a single time server says so, which is not enough to set it"
                    )
                )
                self._tell_once(self.problem)
                await self._ask_helper(now_ms, "leave")
                return
            done = await self._ask_helper(now_ms, "step" if do == Do.STEP else "slew")
            if done is None:
                self.problem = ""
                if abs(wall_ms - now_ms) > _TOLD_OFF_MS:
                    self.problem = off + ", and %s; wayhomed counts on its own" % self._helper_problem
                    self._tell_once(self.problem)
            else:
                self.problem = ""
                self._told = ""
                if do == Do.STEP:
                    self._log.info("%s; it was set to %s" % (off, times.text_from_seconds(now_ms // 1000)))

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._log.warning(text)

    async def _ask_helper(self, time_ms: int, how: str):
        """Return the helper's result, None if it did nothing; why stands in _helper_problem."""
        if not self._settings.helper:
            self._helper_problem = "there is no helper to set it"
            return None
        request = {"command": "set-clock", "time_ms": time_ms, "how": how, "rtc": self.trusted}
        try:
            answer = await within(_HELPER_MS, self._converse(request), "wayhomed-helper")
        except OSError as error:
            # The number and path say nothing to whoever reads the line; that it is not there does.
            self._helper_problem = "wayhomed-helper does not run to set it"
            self._log.debug("wayhomed-helper: %s" % error)
            return None
        except ValueError:
            self._helper_problem = "wayhomed-helper answers nonsense"
            return None
        result = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(result, dict):
            said = answer.get("error") if isinstance(answer, dict) else None
            self._helper_problem = "wayhomed-helper does not set it: %s" % str(said)[:200]
            return None
        self._helper_problem = ""
        return result

    async def _converse(self, request: dict):
        stream = await net.connect_local(self._settings.helper)
        try:
            await stream.write(json.dumps(request).encode() + b"\n")
            received = b""
            while b"\n" not in received and len(received) <= _HELPER_BYTES:
                data = await stream.read()
                if not data:
                    break
                received += data
            return json_text.parse(received)
        finally:
            stream.close()

    # --- What is written down ---

    async def _save_if_due(self) -> None:
        if self._clock.save_due_ms(self._machine.up_ms()) == 0:
            self._save()
            if self.is_right() and self._clock.trust != clocks.Trust.SERVICE:
                await self._ask_helper(self._clock.now_ms(self._machine.up_ms()), "leave")  # the battery-backed clock

    def _save(self) -> None:
        up_ms = self._machine.up_ms()
        try:
            self._state.save_time(self._clock.to_save(up_ms).as_json())
        except StateError as error:
            self._log.debug(str(error))  # the netmap's complaint is heard; this one would only repeat it
        self._clock.saved(up_ms)


def _off(ahead_ms: int) -> str:
    """Return how far a clock is off, for example "3 days behind"."""
    seconds = abs(ahead_ms) // 1000
    side = "ahead" if ahead_ms > 0 else "behind"
    for size, name in ((31_557_600, "year"), (86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return "%d %ss %s" % (seconds // size, name, side)
    return "%d seconds %s" % (seconds, side)
