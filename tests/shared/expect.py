"""What a shared test may use besides bare `assert`: both Pythons have no pytest in common."""


def raises(error, call, *arguments):
    """Call and return the error it raised; any other outcome is an AssertionError."""
    try:
        got = call(*arguments)
    except error as caught:
        return caught
    raise AssertionError("nothing raised; returned " + repr(got))
