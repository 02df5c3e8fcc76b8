"""The one door to the runtime: which Python this is, sockets and waiting, TLS, crypto, clock, processes, signals."""
