"""What Lambda runs. Nothing here knows that a laptop exists.

A reader finds a thing by asking: is it a protocol (`dialects`), a custom action (`actions`), a rule (`service`,
`rendezvous`), a key (`table`), a send (`broadcast`, `transport`), or what an event is answered when something fails
(`handlers`)?
"""
