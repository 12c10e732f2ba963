"""The stand-ins for AWS, over real sockets and in real processes, under small Chalice apps of their own."""
