"""Releases: built from a commit, kept in an OCI layout, described, signed, unpacked."""
