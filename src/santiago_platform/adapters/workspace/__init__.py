"""What the user keeps in git, read: santiago.yaml, score.yaml, build.yaml, documents."""
