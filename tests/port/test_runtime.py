"""Files as both Pythons write them."""

import os
from binascii import hexlify

from shared.expect import raises
from wayhomed.port import random_bytes, runtime

BASE = "/tmp/wayhome-runtime-test-" + hexlify(random_bytes(6)).decode()


def fresh(name):
    runtime.make_directory(BASE + name + "/a/b", 0o700)
    return BASE + name + "/a/b"


def clean(name):
    for folder in ("/a/b", "/a", ""):
        path = BASE + name + folder
        for file in os.listdir(path):
            if folder == "/a/b":
                os.remove(path + "/" + file)
        os.rmdir(path)


def test_a_file_is_replaced_whole_and_only_we_may_read_it():
    directory = fresh("1")
    path = directory + "/state"
    runtime.write_file(path, b"old", 0o600)
    runtime.write_file(path, b"new and longer" * 10_000, 0o600)
    assert runtime.read_file(path, 1_000_000) == b"new and longer" * 10_000
    assert runtime.mode_of(path) == 0o600
    assert runtime.mode_of(directory) == 0o700
    assert sorted(os.listdir(directory)) == ["state"]
    clean("1")


def test_a_missing_file_is_none_and_a_large_one_an_error():
    directory = fresh("2")
    assert runtime.read_file(directory + "/none", 10) is None
    runtime.write_file(directory + "/large", b"12345678901", 0o600)
    assert raises(OSError, runtime.read_file, directory + "/large", 10).errno == 27
    clean("2")


def test_a_write_that_fails_leaves_the_old_file_and_no_neighbour():
    directory = fresh("3")
    os.mkdir(directory + "/taken")
    assert raises(OSError, runtime.write_file, directory + "/taken", b"x", 0o600).errno in (21, 39)
    assert sorted(os.listdir(directory)) == ["taken"]
    assert raises(OSError, runtime.write_file, directory + "/no/such/place", b"x", 0o600).errno == 2
    os.rmdir(directory + "/taken")
    clean("3")


def test_removing_what_is_not_there_is_no_error():
    runtime.remove_file(BASE + "nothing")


def test_a_directory_gets_the_mode_that_is_due():
    directory = fresh("4")
    runtime.make_directory(directory, 0o750)
    assert runtime.mode_of(directory) == 0o750
    runtime.make_directory(directory, 0o700)
    assert runtime.mode_of(directory) == 0o700
    clean("4")


def test_a_lock_is_held_by_one():
    directory = fresh("5")
    first = runtime.lock_file(directory + "/lock")
    assert runtime.lock_file(directory + "/lock") is None
    first.close()
    again = runtime.lock_file(directory + "/lock")
    again.close()
    clean("5")


def test_machine_and_clock_say_something():
    assert runtime.wall_clock_s() > 1_600_000_000
    assert runtime.hostname()
    assert runtime.operating_system()[0] == "linux"
    assert runtime.user_id() >= 0
