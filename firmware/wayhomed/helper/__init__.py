"""What takes more rights than the daemon has: a tiny process of its own that does little and refuses the rest.

It owes the daemon nothing: whatever a taken-over daemon asks for is checked here as if a stranger asked.
"""
