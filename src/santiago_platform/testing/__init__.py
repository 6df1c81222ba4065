"""The contract suites of the ports, for whoever writes an adapter: pytest classes, and what they need to run."""

from __future__ import annotations

import pkgutil

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
