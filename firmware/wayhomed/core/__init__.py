"""Messages and time -> decisions; pure. Time comes in as an argument, nothing here opens a socket or a file."""
