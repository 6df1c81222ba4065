"""Feature flags: the file that holds them, and the process that evaluates and serves them by OFREP."""
