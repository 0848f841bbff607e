"""Models fetched from Hugging Face, or from a mirror of it.

The hub's client library waits in ways that would stop a server, so each pull is a child process (`python -m
rkllama_flask.catalog.pull`) that tells its progress as lines of JSON; ending the process ends the pull. `pulls.py` is
the server's side; the other modules belong to the child.

    source.py    what a name means           hub.py        what the hub has
    choice.py    which of its files          plan.py       what all has to come, and where it goes
    transfer.py  bytes, resumed and checked  workshop.py   the hidden folder until all is whole, then one rename
"""
