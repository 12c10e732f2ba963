"""Generated frames and handshakes, run through the handlers and held against a small model of rights.

    generators   what strangers send: events of API Gateway, right and wrong
    arrivals     their handshakes
    texts        their frames
    wallet       tokens, good and bad, and what the good ones say
    reading      what a frame asks for, read by other means than chalicelib/dialects reads it
    rights       what a claim allows, matched by other means than chalicelib/capability matches it
    model        who may do what, and what each event must come to
    store        the table, in memory
    server       the handlers and all behind them in one process, and the checks after each event
    rounds       the events of one seed to one server, and the fewest of them that fail
    tally        what has been reached, and the table of it

`make fuzz` runs it; tests/test_fuzz.py is its short form.
"""
