"""What things are and how they change. Pure: no input or output, no clock, no randomness."""
