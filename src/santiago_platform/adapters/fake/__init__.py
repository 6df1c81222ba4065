"""A whole platform in memory, for tests of what is built on the ports: fast, with faults on demand."""
