"""Evidence: formats that are read, and files that are kept."""
