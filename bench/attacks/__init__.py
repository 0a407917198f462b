"""Attacks on a running sidecar, and what a well-behaved client sees of them (the victim rule).

A sidecar process stands in front of a fast service (nginx) and of a hostile one. A *victim*, in a process of its own,
sends requests to the fast service at a fixed rate, over HTTP/1.1 and over HTTP/2. An *attacker*, in another process,
niced and limited in its rate, plays one attack of `all.py`. The victim must see no error, and a 99th percentile within
twice its idle one + 50 ms; afterwards descriptors, tasks and memory must come back. Short runs are tests
(tests/e2e/test_attacks.py), long ones are entries of `make prove`.

    site.py      what both sides of an attack know: ports, identity; connections to the sidecar
    wire.py      clients that write bytes no library would
    service.py   the hostile service: records what reaches it, answers as an attack wants it to
    proxy.py     the sidecar's process and what the kernel says of it
    victim.py    the well-behaved client
    turn.py      one attacker: its rate, its end, what it saw; attacker.py is its process
    play.py      one attack from start to verdict
"""
