"""Alertmanager as a supervised process: it groups what Prometheus fires and hands it to the daemon, nothing else."""

from __future__ import annotations

import os
import secrets
import subprocess
from contextlib import suppress
from pathlib import Path

import yaml

from ...domain.errors import ErrorCode, PlatformError
from ..layout import Layout
from .binaries import find

CHECK_SECONDS = 10.0
WEBHOOK_PATH = "/hooks/alertmanager"


def alertmanager_command(layout: Layout, binary: Path, *, port: int, daemon_port: int) -> tuple[str, ...]:
    """Writes its configuration and returns its argv. port: of its API; daemon_port: where its webhook goes."""
    directory = layout.alertmanager
    webhook_token(layout)
    temporary = directory / "alertmanager.yml.tmp"
    temporary.write_text(yaml.safe_dump(_configuration(layout, daemon_port), sort_keys=False))
    _check(temporary)
    temporary.replace(directory / "alertmanager.yml")
    return (
        str(binary),
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",  # it is alone; by default it would listen on every interface
    )


def _check(file: Path) -> None:
    """By amtool, where it is there. Raises FAILED_PRECONDITION: the former configuration stays."""
    amtool = find("amtool")
    if amtool is None:
        return
    done = subprocess.run(
        [amtool.path, "check-config", file], capture_output=True, text=True, timeout=CHECK_SECONDS, check=False
    )
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:500]
        raise PlatformError(ErrorCode.FAILED_PRECONDITION, f"amtool refuses Alertmanager's configuration: {said}", "")


def webhook_token(layout: Layout) -> str:
    """The bearer token that the daemon expects at its webhook; made at first, whole or not at all."""
    path = _token_file(layout)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        with suppress(FileExistsError):
            os.link(temporary, path)  # another process may have made it meanwhile
        temporary.unlink()
    return path.read_text()


def _token_file(layout: Layout) -> Path:
    return layout.alertmanager / "webhook.token"


def _configuration(layout: Layout, daemon_port: int) -> dict[str, object]:
    webhook = {
        "url": f"http://127.0.0.1:{daemon_port}{WEBHOOK_PATH}",
        "send_resolved": True,
        "max_alerts": 1000,  # as many as the daemon takes in one message
        "http_config": {"authorization": {"type": "Bearer", "credentials_file": str(_token_file(layout))}},
    }
    return {
        "route": {
            "receiver": "platform",
            "group_by": ["alertname", "service", "environment"],
            "group_wait": "0s",
            "group_interval": "5s",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "platform", "webhook_configs": [webhook]}],
        # Whoever was woken for a service need not be told of its tickets too.
        "inhibit_rules": [
            {
                "source_matchers": ['severity="page"'],
                "target_matchers": ['severity=~"ticket|info"'],
                "equal": ["service", "environment"],
            }
        ],
    }
