"""The ship's log in files: appended by the daemon, anchored in git, verified by anybody."""
