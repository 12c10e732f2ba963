"""What `make deploy`, `make package`, `make destroy` and `make verify` run. Never deployed, and no server of any kind.

Knows AWS's control plane and this project's names on it; imports nothing of chalicelib and nothing of localaws.
"""
