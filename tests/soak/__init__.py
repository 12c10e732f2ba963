"""A crowd of clients on a real server under faults, for a while, and an account of every message.

    history     what the clients did and what they got, seen from their side
    ledger      the faults that the server says it has put in, by connection and message
    accounts    who should have got what, who got it, and the cause of each loss; no I/O
    leftovers   the rows that are left in the table, and why each may be there; no I/O
    serverlog   what the server's log says that nothing else does
    faults      which faults there are
    client      one WebSocket client, in whatever dialect
    messages    what is said, in each dialect
    crowd       who connects, talks, joins, leaves and vanishes, and when
    backend     a backend that publishes by invoking a function
    footprint   memory and descriptors of the server's processes
    run         the phases of a soak, one after the other
    story       a small history made by hand, for the tests of the account
    report      what is told at the end, and which rules were broken

`make soak` runs it; tests/test_soak.py is its short form.
"""
