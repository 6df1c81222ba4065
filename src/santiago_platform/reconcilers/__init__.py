"""Loops: read the rows, let the domain decide, act through idempotent ports, store the new phase."""
