"""Where rules go: what all of these targets share, and those outside of this machine."""
