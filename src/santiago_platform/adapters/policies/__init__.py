"""Cedar: the default policies, their schema, and those of a workspace."""
