"""The `wayhome` command: each module declares commands, hands over to the library, and shows what comes back."""
