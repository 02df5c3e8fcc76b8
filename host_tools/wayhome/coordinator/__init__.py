"""The coordinator: who is in the mesh, what they may reach, and what each client is told.

`model` holds the records. `registry` is everything that must outlive the process, made of `ledger` (how anything
changes), `users`, `keyring`, `admission`, `devices` and `lan_access`. `policy` and `netmap` are pure and decide what a
client is told; sessions and pages live beside them and keep no state that matters.
"""
