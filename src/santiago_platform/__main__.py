"""`python -m santiago_platform` is `santiago`."""

from .entrypoints.cli import main

main()
