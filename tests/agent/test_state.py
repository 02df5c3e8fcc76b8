"""The state directory: what is kept, and what is refused in words with nothing lost."""

import json
import os
from binascii import hexlify

from shared.expect import raises
from shared.map_message import take
from wayhomed.agent.state import VERSION, State, StateError
from wayhomed.core import prefs
from wayhomed.core.netmap import Netmap
from wayhomed.port import random_bytes, runtime
from wayhomed.wire import keys

BASE = "/tmp/wayhome-state-test-" + hexlify(random_bytes(6)).decode() + "-"


def opened(name):
    state = State(BASE + name)
    state.open()
    return state


def clean(name):
    for file in os.listdir(BASE + name):
        os.remove(BASE + name + "/" + file)
    os.rmdir(BASE + name)


def test_keys_are_made_once_and_kept():
    one = opened("keys")
    one.close()
    two = opened("keys")
    assert one.machine_private == two.machine_private
    assert one.node_private == two.node_private
    assert one.machine_private != one.node_private
    assert len(keys.public_of(two.node_private)) == 32
    two.close()
    clean("keys")


def test_only_the_owner_may_read_it():
    state = opened("modes")
    file = state.begin_netmap()
    file.write(b"{}")
    file.keep()
    assert runtime.mode_of(BASE + "modes") == 0o700
    for file in ("state.json", "netmap.json"):
        assert runtime.mode_of(BASE + "modes/" + file) == 0o600
    state.close()
    clean("modes")


def test_everything_comes_back():
    one = opened("all")
    one.said = prefs.changed(one.said, {"LoginServer": "https://mesh.example.net", "AdvertiseRoutes": ["10.1.0.0/16"]})
    one.registered = True
    one.server_key = b"s" * 32
    one.next_node_private = keys.new_private(b"n" * 32)
    one.save()
    one.close()
    two = opened("all")
    assert two.said.as_json() == one.said.as_json()
    assert two.registered
    assert two.server_key == b"s" * 32
    assert two.next_node_private == one.next_node_private
    two.close()
    clean("all")


def test_a_second_daemon_is_refused():
    one = opened("lock")
    error = raises(StateError, State(BASE + "lock").open)
    assert "another wayhomed" in str(error)
    one.close()
    clean("lock")


def test_a_newer_format_is_left_alone():
    opened("newer").close()
    path = BASE + "newer/state.json"
    newer = json.dumps({"Version": VERSION + 1, "MachineKey": "in a form that we do not know"}).encode()
    runtime.write_file(path, newer, 0o600)
    error = raises(StateError, State(BASE + "newer").open)
    assert "newer wayhomed" in str(error)
    assert "install" in str(error)
    assert runtime.read_file(path, 1000) == newer
    clean("newer")


def test_a_damaged_file_is_left_alone():
    for content in (
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"Version":"1"}',
        b'{"Version":1}',
        b'{"Version":1,"MachineKey":"privkey:00","NodeKey":"x"}',
        b"\xff\xfe",
    ):
        runtime.make_directory(BASE + "damaged", 0o700)
        path = BASE + "damaged/state.json"
        runtime.write_file(path, content, 0o600)
        state = State(BASE + "damaged")
        assert "damaged" in str(raises(StateError, state.open)), content
        assert runtime.read_file(path, 1000) == content
        state.close()
        clean("damaged")


def test_a_place_that_can_not_be_written_is_told_in_words():
    error = raises(StateError, State("/proc/wayhome/state").open)
    assert "/proc/wayhome/state" in str(error)
    assert "--state" in str(error)


def test_a_netmap_that_is_damaged_is_told_and_left_for_the_next_one_to_replace():
    state = opened("netmap")
    assert state.load_netmap() is None
    path = BASE + "netmap/netmap.json"
    for content in (b"", b"{", b"[]", b"{}", b'{"Node":5}', b'{"KeepAlive":true}', b" " * 70_000):
        runtime.write_file(path, content, 0o600)
        assert "netmap.json" in str(raises(StateError, state.load_netmap)), content[:20]
        assert runtime.read_file(path, len(content)) == content
    state.close()
    clean("netmap")


def test_the_netmap_comes_back():
    state = opened("netmap2")
    netmap = Netmap()
    node = {"ID": 1, "Key": keys.key_text(keys.NODE, b"k" * 32), "Addresses": ["100.64.0.1/32"], "Name": "a.b."}
    take(netmap, {"Node": node, "Domain": "example"})
    file = state.begin_netmap()
    for piece in netmap.json_pieces():
        file.write(piece)
    file.keep()
    assert state.load_netmap().node.name == "a.b."
    assert state.load_netmap().domain == "example"
    state.forget_netmap()
    assert state.load_netmap() is None
    state.close()
    clean("netmap2")


def test_the_disco_key_of_a_tunnel_is_kept_for_the_owner_alone_and_until_the_machine_is_switched_off():
    state = opened("disco")
    assert state.load_disco() is None
    state.save_disco(keys.new_private(b"d" * 32))
    path = BASE + "disco/tunnel.json"
    assert runtime.mode_of(path) == 0o600
    assert state.load_disco() == keys.new_private(b"d" * 32)
    kept = runtime.read_file(path, 4096)
    boot = runtime.read_file("/proc/sys/kernel/random/boot_id", 64).strip()
    for damaged in (kept.replace(boot, b"another"), kept[:20], b"", b"[]", b"{}", b"\xff"):
        runtime.write_file(path, damaged, 0o600)
        assert state.load_disco() is None
    state.forget_disco()
    state.forget_disco()
    assert runtime.read_file(path, 4096) is None
    state.close()
    clean("disco")
