"""Who, what and where: registers nodes, gives them addresses and names, and tells each whom it may reach."""
