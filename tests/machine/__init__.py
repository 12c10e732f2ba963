"""The guarantees, held against what hypothesis thinks of: connects, frames, disconnects, publishes, expiry and failures
in any order, with the invocations of Lambda interleaved step by step.

    world     time, and invocations that take their steps one at a time
    store     the table: pages, lag, TTL, and requests that fail
    gateway   who is connected, what is posted, and posts that fail
    lambdas   the handlers and all behind them, in environments that serve one event at a time
    model     who must get a message, who may, and who never; who must be a member
    machine   the rules, and the checks
    bugs      bugs put in by hand, which the machine is to find

tests/test_machine.py runs it: the same short run each time, and with `pytest -m long` a long one that differs each
time. What is found is printed as a program, `state = Machine()` and a call a line, in the fewest and smallest steps
that were found. It runs as it stands, and so does the test with the line `@reproduce_failure(…)` that is printed below
it; `--hypothesis-seed=N` brings back a whole long run.
"""
