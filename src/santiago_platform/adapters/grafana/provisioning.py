"""Writes the dashboards as JSON, with the files by which a Grafana takes them and finds Prometheus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from ...domain.errors import ErrorCode, PlatformError
from .fleet import fleet
from .gpu import gpu
from .server import server
from .service import service

DASHBOARDS: dict[str, Callable[[], Dashboard]] = {"service": service, "fleet": fleet, "gpu": gpu, "platform": server}
DATASOURCE = "Santiago Prometheus"


def dashboard_json(name: str) -> str:
    """The same text each time. Raises KeyError."""
    return json.dumps(DASHBOARDS[name]().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def export_dashboards(into: Path, prometheus_url: str) -> list[Path]:
    """Writes `dashboards/*.json` and `provisioning/{datasources,dashboards}/santiago.yaml` below `into`, over what the
    export before left. Returns the files.

    Raises PlatformError(FAILED_PRECONDITION) where they cannot be written.
    """
    into = into.resolve()
    texts = {f"dashboards/{name}.json": dashboard_json(name) for name in DASHBOARDS}
    texts["provisioning/datasources/santiago.yaml"] = _yaml(_datasources(prometheus_url))
    texts["provisioning/dashboards/santiago.yaml"] = _yaml(_providers(into / "dashboards"))
    try:
        for path, text in texts.items():
            file = into / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    except OSError as exc:
        raise PlatformError(
            ErrorCode.FAILED_PRECONDITION,
            f"the dashboards cannot be written: {exc.strerror}: {exc.filename}",
            "name a folder that this user may write to",
        ) from exc
    return [into / path for path in texts]


def _datasources(url: str) -> dict[str, Any]:
    source = {"name": DATASOURCE, "uid": "santiago-prometheus", "type": "prometheus", "access": "proxy", "url": url}
    # How often Envoys are scraped: a rate's window is at least four times that.
    return {"apiVersion": 1, "datasources": [{**source, "jsonData": {"timeInterval": "2s", "httpMethod": "POST"}}]}


def _providers(folder: Path) -> dict[str, Any]:
    provider = {"name": "santiago", "folder": "Santiago", "type": "file", "allowUiUpdates": False}
    return {"apiVersion": 1, "providers": [{**provider, "options": {"path": str(folder)}}]}


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False)
