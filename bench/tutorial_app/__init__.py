"""A rival, not a part of Channels: how tutorials write a channel server with Chalice."""
