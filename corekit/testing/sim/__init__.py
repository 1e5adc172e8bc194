"""A whole ensemble with its network, disks and clocks in one process, under one seed.

    campaign.py   one seed: options, faults, then healing; the report when something is violated
    world.py      time, the event heap, randomness, the trace
    net.py        links between servers: FIFO, delay, stalls, resets, peers that vanish
    disk.py       a `Storage` that loses what was not synced
    node.py       one server process: boots, crashes, pauses; gives its parts time, bytes and a disk
    kv.py         a small replica (a `ConsensusHost`) with keys instead of znodes
    clients.py    clients that keep a history
    nemesis.py    faults
    checker.py    what must hold, written from the specification, outside the code under test

The same seed gives the same run, in any process: nothing here or below may use time, the `random` module's own state,
`id()`, `hash()` of text, or the order of sets of text.
"""
