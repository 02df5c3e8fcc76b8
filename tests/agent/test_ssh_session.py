"""Where a person is logged in from, by the environment of the processes above the command."""

from wayhomed.agent.ssh_session import address_in, came_from, parent_in


def test_the_clients_address_is_the_first_word_of_the_variable():
    assert address_in(b"A=1\0SSH_CONNECTION=100.64.0.9 51234 100.64.0.3 22\0B=2\0") == "100.64.0.9"
    assert address_in(b"SSH_CONNECTION=fd7a:115c:a1e0::9 1 fd7a:115c:a1e0::3 22") == "fd7a:115c:a1e0::9"


def test_an_environment_without_it_or_with_nonsense_in_it_names_nobody():
    for environment in (b"", b"\0\0", b"SSH_CONNECTION=", b"SSH_CONNECTION= \0", b"XSSH_CONNECTION=1.2.3.4", b"SSH"):
        assert address_in(environment) == "", environment
    assert address_in(b"SSH_CONNECTION=\xff\xfe 1") == ""


def test_the_parent_is_what_the_kernel_says():
    assert parent_in(b"Name:\tsh\nPid:\t7\nPPid:\t42\nTracerPid:\t0\n") == 42
    assert parent_in(b"Name:\tsh\n") == 0 and parent_in(b"") == 0 and parent_in(b"PPid:\tx\n") == 0


def test_asking_about_ourselves_ends():
    assert isinstance(came_from(), str)
