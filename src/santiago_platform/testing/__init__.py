"""The contract suites of the ports, for whoever writes an adapter: pytest classes, and what they need to run."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(__name__)
