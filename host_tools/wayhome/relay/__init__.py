"""The relay: DERP and STUN.

`core` decides (pure: bytes and times in, bytes and endings out), `service` carries it on asyncio, `pages` holds the few
plain HTTP answers that clients expect of a relay, `stun` answers on UDP. Who may come in is asked of whoever
runs the relay; it knows no coordinator.
"""
