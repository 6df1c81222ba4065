"""Reports as files that people read."""
