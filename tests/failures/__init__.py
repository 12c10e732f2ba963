"""Failures in the middle of operations: each request to the store, in each way, once and from there on.

    operations   all that a client, a backend or API Gateway may ask for
    store        the table, in memory, whose n-th request fails
    deployment   the handlers in one process, and what clients have heard

Of each failure: who was told what, what others can see meanwhile, and that a repeat comes to what an undisturbed run
comes to. tests/machine draws failures at random instead, several at once.
"""
