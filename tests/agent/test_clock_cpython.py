"""The time: asked of servers, told by the coordinator, set by the helper, written down."""

import asyncio
from contextlib import asynccontextmanager

from agent.clocks import NOW_S, Y2099_S, FakeMachine, helping, time_servers
from agent.fakes import until
from wayhomed.agent import clock as clocks
from wayhomed.agent.state import State, StateError
from wayhomed.agent.version import BUILD_S
from wayhomed.wire import ntp

DAY_S = 86_400


class Log:
    def __init__(self):
        self.lines = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    debug = info = warning = error = note

    def has(self, part: str) -> bool:
        return any(part in line for line in self.lines)


class Kept:
    """A TimeKeeper, what it logs, and how often the time became trusted."""

    def __init__(self, machine, directory, tunnel=False, **settings):
        self.log = Log()
        self.state = State(str(directory / "state"))
        self.state.open()
        self.times_trusted = 0
        self.tunnel = tunnel
        self.machine = machine
        settings = {"servers": [], **settings}
        self.keeper = clocks.TimeKeeper(
            clocks.Settings(machine=machine, **settings), self.state, self.log, lambda: self.tunnel, self._trusted
        )

    def _trusted(self) -> None:
        self.times_trusted += 1


@asynccontextmanager
async def keeping(machine, directory, **options):
    kept = Kept(machine, directory, **options)
    task = asyncio.create_task(kept.keeper.run())
    await asyncio.sleep(0)
    try:
        yield kept
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kept.state.close()


# --- Time servers ---


async def test_servers_that_agree_are_believed(tmp_path):
    async with time_servers(NOW_S, NOW_S, NOW_S) as (servers, names, port):
        async with keeping(FakeMachine(0), tmp_path, servers=names, port=port) as kept:
            await until(lambda: kept.keeper.trusted)
            assert kept.keeper.trusted_now_s() == NOW_S
            assert kept.times_trusted == 1
            assert kept.log.has("the time is known: ")
            assert all(len(server.questions) == 1 for server in servers)
            assert len({server.questions[0][40:] for server in servers}) == 3, "each question has a nonce of its own"


async def test_a_server_that_lies_is_outvoted(tmp_path):
    async with time_servers(NOW_S, NOW_S + 400 * DAY_S, NOW_S) as (_servers, names, port):
        async with keeping(FakeMachine(0), tmp_path, servers=names, port=port) as kept:
            await until(lambda: kept.keeper.trusted)
            assert kept.keeper.trusted_now_s() == NOW_S


async def test_two_servers_that_contradict_each_other_are_not_believed(tmp_path):
    async with time_servers(NOW_S, NOW_S + DAY_S) as (_servers, names, port):
        async with keeping(FakeMachine(0), tmp_path, servers=names, port=port) as kept:
            await until(lambda: kept.log.has("contradict each other"))
            assert not kept.keeper.trusted


async def test_forged_answers_and_garbage_do_not_keep_the_right_one_out(tmp_path):
    async with time_servers(NOW_S) as ([server], names, port):

        def answer(question):
            forged = bytearray(ntp.encode_answer(question, (NOW_S + DAY_S) * 1000, (NOW_S + DAY_S) * 1000))
            forged[24] ^= 1
            return [b"", b"x" * 2000, bytes(48), question, bytes(forged), *server.honest(question)]

        server.answer = answer
        async with keeping(FakeMachine(0), tmp_path, servers=names, port=port) as kept:
            await until(lambda: kept.keeper.trusted)
            assert kept.keeper.trusted_now_s() == NOW_S


async def test_answers_of_somebody_who_was_not_asked_are_passed_over(tmp_path):
    async with time_servers(NOW_S, NOW_S + DAY_S) as ([asked, stranger], names, port):

        def answer(question):
            return asked.honest(question)

        def answer_by_the_stranger_first(data, address):
            asked.questions.append(data)
            for each in stranger.honest(data):
                stranger.transport.sendto(each, address)
            for each in answer(data):
                asked.transport.sendto(each, address)

        asked.datagram_received = answer_by_the_stranger_first
        async with keeping(FakeMachine(0), tmp_path, servers=names[:1], port=port) as kept:
            await until(lambda: kept.keeper.trusted)
            assert kept.keeper.trusted_now_s() == NOW_S


async def test_a_server_that_refuses_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(clocks, "_ROUND_MS", 50)
    async with time_servers(NOW_S) as ([server], names, port):
        server.answer = lambda question: [ntp.encode_answer(question, 0, 0, refusal="DENY")]
        async with keeping(FakeMachine(0), tmp_path, servers=names, port=port) as kept:
            await until(lambda: kept.log.has("refuses us: DENY"))
            server.answer = server.honest
            for _ in range(3):
                kept.machine.pass_s(3600)
                kept.keeper.uplink_changed()
                await asyncio.sleep(0.02)
            assert len(server.questions) == 1
            kept.machine.pass_s(DAY_S)
            kept.keeper.uplink_changed()
            await until(lambda: kept.keeper.trusted)


async def test_a_server_that_knows_nothing_is_no_help_and_another_uplink_is_tried_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(clocks, "_ROUND_MS", 50)
    async with time_servers(NOW_S) as ([server], names, port):
        server.answer = lambda _question: []
        async with keeping(FakeMachine(0), tmp_path, servers=names, port=port) as kept:
            await kept.keeper.wait_for_trust(60_000)
            assert not kept.keeper.trusted, "nobody waits longer than one round takes"
            server.answer = server.honest
            kept.keeper.uplink_changed()
            await until(lambda: kept.keeper.trusted)


async def test_a_time_before_the_build_date_is_told_and_not_believed(tmp_path):
    async with time_servers(BUILD_S - DAY_S, BUILD_S - DAY_S) as (_servers, names, port):
        async with keeping(FakeMachine(0), tmp_path, servers=names, port=port) as kept:
            # In 1900's reckoning that is a time of the next era, 136 years later.
            await until(lambda: kept.log.has("they are not believed"))
            assert not kept.keeper.trusted


async def test_no_server_is_asked_where_another_service_keeps_the_clock_or_the_owner_says_off(tmp_path):
    async with time_servers(NOW_S) as ([server], names, port):
        machine = FakeMachine(NOW_S + 5)
        machine.kept = True
        async with keeping(machine, tmp_path, servers=names, port=port) as kept:
            await until(lambda: kept.keeper.trusted)
            assert kept.keeper.trusted_now_s() == NOW_S + 5
        (tmp_path / "state" / "time.json").unlink()
        async with keeping(FakeMachine(0), tmp_path, servers=[], port=port) as kept:
            await kept.keeper.wait_for_trust(60_000)
            assert not kept.keeper.trusted
        assert server.questions == []


# --- The machine's clock ---


async def test_a_clock_in_1970_is_set_to_the_floor_and_then_to_the_time(tmp_path):
    machine = FakeMachine(0)
    async with helping(machine, tmp_path / "helper") as helper, keeping(machine, tmp_path, helper=helper) as kept:
        await kept.keeper.before_tunnel()
        assert machine.shows_ms == BUILD_S * 1000
        assert machine.rtc_ms == 0, "what nobody vouches for is not worth keeping"
        kept.tunnel = True
        kept.keeper.coordinator_told(NOW_S, True)
        await until(lambda: machine.shows_ms == NOW_S * 1000 and machine.rtc_ms == NOW_S * 1000)
        assert kept.keeper.is_right()


async def test_a_clock_in_2099_is_set_back_before_the_tunnel_starts(tmp_path):
    machine = FakeMachine(Y2099_S)
    async with helping(machine, tmp_path / "helper") as helper, keeping(machine, tmp_path, helper=helper) as kept:
        await kept.keeper.before_tunnel()
        assert machine.shows_ms == BUILD_S * 1000


async def test_a_clock_found_wrong_under_the_tunnel_is_left_and_the_daemon_counts_on_its_own(tmp_path):
    machine = FakeMachine(NOW_S + 100 * DAY_S)
    async with helping(machine, tmp_path / "helper") as helper:
        async with keeping(machine, tmp_path, helper=helper, tunnel=True) as kept:
            kept.keeper.coordinator_told(NOW_S, True)
            await until(lambda: machine.rtc_ms == NOW_S * 1000)
            assert machine.shows_ms == (NOW_S + 100 * DAY_S) * 1000
            assert kept.keeper.trusted_now_s() == NOW_S
            assert "100 days ahead; it can't go back while the tunnel stands" in kept.keeper.status()["problem"]
            assert not kept.keeper.is_right()
            machine.pass_s(60)
            assert kept.keeper.trusted_now_s() == NOW_S + 60


async def test_a_doubtful_clock_waits_a_little_for_better_news_before_the_tunnel_starts(tmp_path):
    machine = FakeMachine(NOW_S + 3000 * DAY_S)
    async with helping(machine, tmp_path / "helper") as helper, keeping(machine, tmp_path, helper=helper) as kept:
        starting = asyncio.create_task(kept.keeper.before_tunnel())
        await asyncio.sleep(0.02)
        assert not starting.done()
        kept.keeper.coordinator_told(NOW_S, True)
        await starting
        assert machine.shows_ms == NOW_S * 1000


async def test_without_a_helper_the_daemon_counts_on_its_own_and_says_so(tmp_path):
    for helper, words in (("", "there is no helper"), (str(tmp_path / "nobody"), "wayhomed-helper does not run")):
        async with keeping(FakeMachine(0), tmp_path, helper=helper) as kept:
            await kept.keeper.before_tunnel()
            kept.keeper.coordinator_told(NOW_S, True)
            assert kept.keeper.trusted_now_s() == NOW_S
            await until(lambda k=kept, w=words: w in k.keeper.status()["problem"])
        (tmp_path / "state" / "time.json").unlink()


async def test_a_helper_that_talks_nonsense_or_hangs_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(clocks, "_HELPER_MS", 50)
    answers = [b"{\n", b"[]\n", b"\xff\n", b'{"result": 5}\n', b'{"error": {}}\n', b"", b"y" * 10_000, None]

    async def serve(_reader, writer):
        answer = answers[0]
        if answer is None:
            await asyncio.sleep(1)
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, str(tmp_path / "helper")):
        kept = Kept(FakeMachine(0), tmp_path, helper=str(tmp_path / "helper"))
        kept.keeper.coordinator_told(NOW_S, True)
        while answers:
            await kept.keeper.before_tunnel()
            assert "wayhomed-helper" in kept.keeper.status()["problem"], answers[0]
            answers.pop(0)
            if not answers:
                break
        kept.state.close()


# --- What is written down ---


async def test_the_time_is_kept_over_a_restart_of_the_daemon_and_over_one_of_the_machine(tmp_path):
    machine = FakeMachine(0)
    async with keeping(machine, tmp_path) as kept:
        kept.keeper.coordinator_told(NOW_S, True)
        machine.pass_s(10)
    machine.pass_s(5)
    async with keeping(machine, tmp_path) as kept:
        assert kept.keeper.trusted and kept.keeper.trusted_now_s() == NOW_S + 15
        assert kept.times_trusted == 0
        machine.pass_s(5)
    async with keeping(FakeMachine(0, "next boot"), tmp_path) as kept:
        assert not kept.keeper.trusted
        assert kept.keeper.now_s() == kept.keeper.floor_s() == NOW_S + 20


async def test_a_saved_time_that_is_damaged_is_passed_over(tmp_path):
    Kept(FakeMachine(0), tmp_path).state.close()
    for damaged in (b"", b"{", b"[]", b"\xff", b'{"TimeMs": "x"}', b"1" * 5000):
        (tmp_path / "state" / "time.json").write_bytes(damaged)
        kept = Kept(FakeMachine(0), tmp_path)
        assert kept.keeper.now_s() == BUILD_S
        kept.state.close()


async def test_a_full_disk_keeps_nobody_from_knowing_the_time(tmp_path):
    async with keeping(FakeMachine(0), tmp_path) as kept:

        def full(_fields):
            raise StateError("the disk is full")

        kept.state.save_time = full
        kept.keeper.coordinator_told(NOW_S, True)
        await until(lambda: kept.log.has("the disk is full"))
        assert kept.keeper.trusted_now_s() == NOW_S


async def test_a_coordinator_that_nobody_vouches_for_yet_is_as_good_as_a_time_server(tmp_path):
    async with time_servers(NOW_S, NOW_S) as (_servers, names, port):
        async with keeping(FakeMachine(0), tmp_path, servers=names, port=port) as kept:
            kept.keeper.coordinator_told(NOW_S + 900 * DAY_S, False)
            assert kept.keeper.trusted
            await until(lambda: kept.keeper.trusted_now_s() == NOW_S)
            kept.keeper.coordinator_told(NOW_S + 900 * DAY_S, False)
            assert kept.keeper.trusted_now_s() == NOW_S
