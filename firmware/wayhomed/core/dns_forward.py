"""Questions carried to other resolvers, and their answers believed or not.

    client's question -> Forwarder.ask() -> Pending --next_attempt()--> Attempt: one message to one upstream
                                              ^                            |  its own id, socket, case of letters
                                              +------ received(), failed() +

An answer counts only if it came from the upstream that was asked to the socket that asked (a connected one: the shell's
duty), with its random id and the question letter by letter. Where only the case of the letters is another's, or where
many wrong answers come, the upstream is asked again by TCP, which nobody forges from afar.

Equal questions are asked once. A question of ours that comes back is known: by the case of its letters, or because it
comes from the upstream that has it. It ends there, and that upstream is left alone for a while. A loop that neither
shows is no storm either: what comes back joins what is pending, and both end with the time.
Source: RFC 5452 (forged answers), RFC 1035 section 7.2 and RFC 7766 (TCP).
"""

from wayhomed.port import const
from wayhomed.wire import dns
from wayhomed.wire.errors import BadWire

# Chosen by us
MAX_PENDING = const(128)
MAX_PENDING_OF_CLIENT = const(32)
MAX_CLIENTS_OF_PENDING = const(16)
MAX_ATTEMPTS = const(5)
DEADLINE_MS = const(5_000)  # what clients wait, by habit (resolv.conf's timeout)
_NEXT_AFTER_MS = const(1_000)
_WRONG_ANSWERS = const(8)  # of one attempt: somebody guesses
_LOOP_MS = const(60_000)
_FORGED_SHOWN_MS = const(600_000)
_TELLING_LETTERS = const(10)  # fewer might be mixed alike by chance
_NO_ANSWERS = (dns.SERVFAIL, dns.REFUSED, dns.NOTIMP)  # another upstream may know


class Attempt:
    """One message to one upstream. by_tcp: how; message: what to send; is_open: an answer is still wanted."""

    def __init__(self, upstream: tuple, message: bytes, question: bytes, by_tcp: bool):
        self.upstream = upstream
        self.message = message
        self.question = question
        self.by_tcp = by_tcp
        self.is_open = True
        self.wrong = 0


class Pending:
    """One question on its way. clients: [(client, Query, ip)] that want the answer; answer: the message once it is
    there, an upstream's with its own id, None if there will be none; is_done.
    """

    def __init__(self, key: tuple, query: dns.Query, upstreams: list, now_ms: int):
        self.key = key
        self.query = query
        self.clients: list = []
        self.attempts: list = []
        self.answer: bytes | None = None
        self.is_done = False
        self.deadline_ms = now_ms + DEADLINE_MS
        self._upstreams = upstreams
        self._turn = 0
        self._next_ms = now_ms
        self._by_tcp: list = []  # upstreams that are to be asked by TCP
        self._second_best: bytes | None = None
        self.tried = 0

    def next_timer(self) -> int:
        """Return when next_attempt() is to be asked again, if nothing happens before."""
        return min(self._next_ms, self.deadline_ms)

    # --- For the Forwarder ---

    def next_upstream(self, now_ms: int, is_looping) -> tuple:
        """Return (upstream, by TCP) to ask now, (None, False) for nobody. Sets is_done when there is no hope left."""
        if self.is_done:
            return None, False
        if now_ms >= self.deadline_ms:
            self.give_up()
            return None, False
        if self._by_tcp:
            return self._by_tcp.pop(0), True
        if now_ms < self._next_ms:
            return None, False
        for _ in self._upstreams:
            upstream = self._upstreams[self._turn % len(self._upstreams)]
            if self.tried >= MAX_ATTEMPTS:
                break
            self._turn += 1
            if not is_looping(upstream):
                self._next_ms = now_ms + _NEXT_AFTER_MS
                return upstream, False
        self._next_ms = self.deadline_ms
        self.give_up_unless_open()
        return None, False

    def give_up(self) -> None:
        if not self.is_done:
            self.answer = self._second_best
            self.is_done = True
        for attempt in self.attempts:
            attempt.is_open = False

    def give_up_unless_open(self) -> None:
        if not [attempt for attempt in self.attempts if attempt.is_open] and not self._by_tcp:
            self.give_up()

    def take(self, reply: bytes) -> None:
        self._second_best = reply
        self.give_up()

    def keep(self, reply: bytes) -> None:
        """An upstream says that it can't say: good enough if nobody else says more."""
        self._second_best = self._second_best or reply

    def ask_next(self, now_ms: int) -> None:
        """An attempt has ended: whom nobody has asked yet is asked at once."""
        if self._turn < len(self._upstreams):
            self._next_ms = now_ms
        else:
            self.give_up_unless_open()

    def ask_by_tcp(self, attempt: Attempt, now_ms: int) -> None:
        attempt.is_open = False
        if attempt.upstream in [one.upstream for one in self.attempts if one.by_tcp] + self._by_tcp:
            self.ask_next(now_ms)
        else:
            self._by_tcp.append(attempt.upstream)


class Forwarder:
    """All questions on their way.

    own: (ip, port) of our listeners: none of them is ever an upstream. own_ips: this machine's addresses. loops:
    {upstream: until when it is left alone}; wrong_from: {upstream: when wrong answers last came}; counts: what has
    happened, by a word.
    """

    def __init__(self, random_bytes):
        self._random_bytes = random_bytes
        self._pending: dict = {}
        self._of_client: dict = {}
        self.own: list = []
        self.own_ips: list = []
        self.loops: dict = {}
        self.wrong_from: dict = {}
        self.counts = {"asked": 0, "joined": 0, "busy": 0, "looped": 0, "wrong": 0, "unanswered": 0}

    def ask(self, query: dns.Query, client, source: tuple, upstreams: list, now_ms: int):
        """Take a question; return (Pending, whether it is new), or (None, False) if it is answered SERVFAIL at once.

        client: what says who gets the answer, to be found in Pending.clients later; source: its (ip, port).
        Whoever gets a new Pending works on it, and calls finished() at its end.
        """
        name = dns.name_text(query.labels)
        key = (name, query.kind, bool(query.udp_bytes), query.dnssec_ok, query.flags)
        if self._is_ours(name, query, source[0], now_ms):
            self.counts["looped"] += 1
            return None, False
        usable = [upstream for upstream in upstreams if not self._is_looping(upstream, now_ms)]
        pending = self._pending.get(key)
        if pending is not None and pending.is_done:
            pending = None
        if not usable and pending is None:
            return None, False
        held = self._of_client.get(source[0], 0)
        if held >= MAX_PENDING_OF_CLIENT or (pending is None and len(self._pending) >= MAX_PENDING):
            self.counts["busy"] += 1
            return None, False
        if pending is not None:
            for known, known_query, _ip in pending.clients:
                if known == client and known_query.id == query.id:
                    return pending, False  # it asks again because we are slow
            if len(pending.clients) >= MAX_CLIENTS_OF_PENDING:
                self.counts["busy"] += 1
                return None, False
            self.counts["joined"] += 1
            self._add_client(pending, client, source, query)
            return pending, False
        pending = Pending(key, query, usable, now_ms)
        self._pending[key] = pending
        self.counts["asked"] += 1
        self._add_client(pending, client, source, query)
        return pending, True

    def next_attempt(self, pending: Pending, now_ms: int):
        """Return the Attempt to make now, None for none."""
        upstream, by_tcp = pending.next_upstream(now_ms, lambda upstream: self._is_looping(upstream, now_ms))
        if upstream is None:
            return None
        random = self._random_bytes(34)
        question = dns.mixed_case(pending.query.question, random[2:])
        message = dns.encode_query(random[0] << 8 | random[1], pending.query, question)
        attempt = Attempt(upstream, message, question, by_tcp)
        pending.attempts.append(attempt)
        pending.tried += 1
        return attempt

    def received(self, pending: Pending, attempt: Attempt, reply: bytes, now_ms: int) -> None:
        """A message came to an attempt's socket from the attempt's upstream."""
        if not attempt.is_open:
            return
        fits = dns.answers(reply, attempt.message, attempt.question)
        if fits == dns.NOT_OURS or not _is_whole(reply):
            self._wrong(pending, attempt, now_ms)
        elif attempt.by_tcp or (fits == dns.OURS and not dns.is_truncated(reply)):
            attempt.is_open = False
            if dns.rcode(reply) in _NO_ANSWERS:
                pending.keep(reply)
                pending.ask_next(now_ms)
            else:
                pending.take(reply)
        else:
            pending.ask_by_tcp(attempt, now_ms)

    def failed(self, pending: Pending, attempt: Attempt, now_ms: int) -> None:
        """An attempt can't bring an answer any more: refused, no way there, hung up."""
        if attempt.is_open:
            attempt.is_open = False
            pending.ask_next(now_ms)

    def finished(self, pending: Pending) -> None:
        """Forget a Pending that is done, and whom it was for."""
        pending.give_up()
        if pending.answer is None:
            self.counts["unanswered"] += 1
        if self._pending.get(pending.key) is pending:
            del self._pending[pending.key]
        for _client, _query, ip in pending.clients:
            self._of_client[ip] -= 1
            if not self._of_client[ip]:
                del self._of_client[ip]

    def pending_count(self) -> int:
        return len(self._pending)

    def looping(self, now_ms: int) -> list:
        """Return the upstreams whose questions came back to us."""
        self.loops = {upstream: self.loops[upstream] for upstream in self.loops if self.loops[upstream] > now_ms}
        return sorted(self.loops)

    def forging(self, now_ms: int) -> list:
        """Return the upstreams in whose name wrong answers came, not long ago."""
        known = self.wrong_from
        self.wrong_from = {one: known[one] for one in known if now_ms - known[one] < _FORGED_SHOWN_MS}
        return sorted(self.wrong_from)

    def _add_client(self, pending: Pending, client, source: tuple, query: dns.Query) -> None:
        pending.clients.append((client, query, source[0]))
        self._of_client[source[0]] = self._of_client.get(source[0], 0) + 1

    def _wrong(self, pending: Pending, attempt: Attempt, now_ms: int) -> None:
        attempt.wrong += 1
        self.counts["wrong"] += 1
        if attempt.by_tcp:
            self.failed(pending, attempt, now_ms)
        elif attempt.wrong >= _WRONG_ANSWERS:
            self.wrong_from[attempt.upstream] = now_ms
            pending.ask_by_tcp(attempt, now_ms)

    def _is_looping(self, upstream: tuple, now_ms: int) -> bool:
        return upstream in self.own or self.loops.get(upstream, 0) > now_ms

    def _is_ours(self, name: str, query: dns.Query, source_ip: bytes, now_ms: int) -> bool:
        """Tell whether a question is one of our own that came back, and remember who sent it back."""
        is_elsewhere = source_ip not in self.own_ips
        is_telling = dns.mixed_letters(query.question) >= _TELLING_LETTERS and query.question != _plain(query.question)
        came_back = False
        for key in self._pending:
            if key[0] != name or key[1] != query.kind:
                continue
            pending = self._pending[key]
            for attempt in pending.attempts:
                if (is_telling and attempt.question == query.question) or (
                    is_elsewhere and attempt.is_open and attempt.upstream[0] == source_ip
                ):
                    came_back = True
                    if len(self.loops) < MAX_PENDING or attempt.upstream in self.loops:
                        self.loops[attempt.upstream] = now_ms + _LOOP_MS
                    attempt.is_open = False
                    pending.ask_next(now_ms)
        return came_back


def _plain(question: bytes) -> bytes:
    return question[:-4].lower() + question[-4:]


def _is_whole(reply: bytes) -> bool:
    if dns.is_truncated(reply):
        return True  # nothing but its header is used
    try:
        dns.decode_reply(reply)
    except BadWire:
        return False
    return True
