"""Programs that benches compare with or measure by, from the distribution's packages.

They are fetched into the cache of the platform's own daemons and unpacked there: nothing is installed in the system.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from santiago_platform.adapters.local.binaries import Package, fetch, find, find_in

PACKAGES = (
    Package("wrk", {"wrk": "usr/bin/wrk"}, needs_libraries=True),
    Package("haproxy", {"haproxy": "usr/sbin/haproxy"}, needs_libraries=True),
    Package("ripgrep", {"rg": "usr/bin/rg"}, needs_libraries=True),
    Package("caddy", {"caddy": "usr/bin/caddy"}),
)


@dataclass(frozen=True)
class Program:
    """path: of the binary. environment: what it is run with."""

    path: str
    environment: Mapping[str, str]


def program(name: str) -> Program:
    """Fetched where it is missing. Raises PlatformError as `fetch` does."""
    if name != "envoy":
        fetch(packages=PACKAGES)
    found = find(name) if name == "envoy" else find_in(next(p for p in PACKAGES if name in p.binaries), name)
    assert found is not None  # it was fetched, and Envoy is a dependency
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    if found.libraries is not None:
        environment["LD_LIBRARY_PATH"] = str(found.libraries)
    return Program(str(found.path), environment)
