"""`wayhome lab` on the command line."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from wayhome.cli import main
from wayhome.lab import plan, record
from wayhome.lab.interpreter import python_environment


def wayhome(*words, check=True):
    done = subprocess.run(
        [sys.executable, "-c", "from wayhome.cli.main import main; main()", "lab", *words],
        capture_output=True,
        text=True,
        env={**python_environment(), "COLUMNS": "160"},
        timeout=120,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_list_tells_every_plan():
    told = wayhome("list").stdout
    data = json.loads(wayhome("list", "--json").stdout)
    assert [one["name"] for one in data["plans"]] == plan.shipped()
    assert all(name in told for name in plan.shipped())


def test_show_draws_a_plan():
    assert "home-router" in wayhome("show", "story").stdout
    assert json.loads(wayhome("show", "story", "--json").stdout)["name"] == "story"


def test_a_mistake_is_one_sentence_and_status_1():
    done = wayhome("show", "stroy", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("wayhome: no plan stroy;")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["list", "show", "up", "down", "run"])
def test_every_command_has_an_example(command):
    assert "Example: wayhome lab" in wayhome(command, "--help").stdout


@pytest.mark.lab
def test_a_lab_is_put_up_used_shown_and_taken_down():
    name = f"cli-{os.getpid()}"
    made = json.loads(wayhome("up", "same-lan", "--name", name, "--json").stdout)
    try:
        assert made == {"name": name, "plan": "same-lan", "hosts": list(plan.load("same-lan").hosts)}
        assert name in wayhome("list").stdout
        assert [one["plan"] for one in json.loads(wayhome("list", "--json").stdout)["running"] if one["name"] == name]
        assert "home-router" in wayhome("show", name).stdout
        page = wayhome("run", name, "one", "--", "curl", "-sS", "http://192.168.1.22/").stdout
        assert page == "hello from two; you are 192.168.1.21\n"
        assert wayhome("run", name, "one", "sh", "-c", "exit 7", check=False).returncode == 7
        assert wayhome("run", name, "one", "pwd").stdout == f"{os.getcwd()}\n"
        assert "Usage" in wayhome("run", name, "one", "wayhome", "--help").stdout
        again = wayhome("up", "same-lan", "--name", name, check=False)
        assert again.returncode == 1
        assert "is there already" in again.stderr
    finally:
        down = json.loads(wayhome("down", name, "--json").stdout)
    assert name in down["removed"]
    assert record.load(name) is None


@pytest.mark.lab
def test_taking_down_what_is_not_there_says_so():
    done = wayhome("down", "not-there", check=False)
    assert done.returncode == 1
    assert "no lab not-there is running" in done.stderr


def test_down_without_a_name_asks_for_one():
    done = wayhome("down", check=False)
    assert done.returncode == 1
    assert "which lab?" in done.stderr


@pytest.mark.lab
def test_a_lab_that_has_ended_does_not_hide_the_plan_of_its_name(tmp_path, monkeypatch):
    # in a folder of its own: a record that nobody owns is removed by whoever comes by
    monkeypatch.setattr(record, "ROOT", tmp_path)
    ended = record.Process(os.getpid(), started=1)
    record.claim(record.Record("story", "same-lan", owner=None, keeper=ended))
    shown = CliRunner().invoke(main.app, ["lab", "show", "story", "--json"])
    assert json.loads(shown.stdout)["name"] == "story"
