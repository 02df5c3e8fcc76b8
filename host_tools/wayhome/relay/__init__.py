"""The DERP relay and STUN service: packets between nodes that find no direct path, addressed by node key."""
