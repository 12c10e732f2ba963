"""Measurements that print a table. None of them is a test, and timing belongs nowhere else."""
