"""What is asked of the Linux kernel: netlink, WireGuard, nftables, routes, sysctls, raw sockets."""
