"""The command line: a client of the server's HTTP API like any other, with nothing of the server's inside."""
