"""Secrets at rest: versions in a file, sealed by a key of the workspace."""
