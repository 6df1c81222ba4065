"""Alertmanager as a supervised process: it groups what Prometheus fires and hands it to the daemon, nothing else."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import yaml

from .layout import Layout

WEBHOOK_PATH = "/hooks/alertmanager"

# Debian's build does not carry its templates, but reads them from here.
_DEBIAN_TEMPLATES = b"/usr/share/prometheus/alertmanager"
_WORKING_DIRECTORY = b"/proc/self/cwd".ljust(len(_DEBIAN_TEMPLATES), b"/")


def alertmanager_command(layout: Layout, binary: Path, *, port: int, daemon_port: int) -> tuple[str, ...]:
    """Writes its configuration and returns its argv. port: of its API; daemon_port: where its webhook goes."""
    directory = layout.alertmanager
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    webhook_token(layout)
    temporary = directory / "alertmanager.yml.tmp"
    temporary.write_text(yaml.safe_dump(_configuration(layout, daemon_port), sort_keys=False))
    temporary.replace(directory / "alertmanager.yml")
    return (
        *_program(binary, directory),
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",  # it is alone; by default it would listen on every interface
    )


def _program(binary: Path, directory: Path) -> tuple[str, ...]:
    """The beginning of the argv.

    Debian's package, unpacked without root, does not find its templates, without which it does not start. It gets a
    copy that looks in its working directory instead: a path of the same length in place of the other. The templates
    are empty, since a webhook uses none.
    """
    content = binary.read_bytes()
    if _DEBIAN_TEMPLATES not in content or Path(_DEBIAN_TEMPLATES.decode(), "default.tmpl").exists():
        return (str(binary),)
    for name in ("default.tmpl", "email.tmpl"):
        (directory / name).touch(mode=0o600)
    copy = directory / f"alertmanager-{hashlib.sha256(content).hexdigest()[:16]}"
    if not copy.exists():
        temporary = copy.with_suffix(".tmp")
        temporary.write_bytes(content.replace(_DEBIAN_TEMPLATES, _WORKING_DIRECTORY))
        temporary.chmod(0o700)
        temporary.replace(copy)
    return ("/usr/bin/env", f"--chdir={directory}", str(copy))


def webhook_token(layout: Layout) -> str:
    """The bearer token that the daemon expects at its webhook; made at first."""
    path = _token_file(layout)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text()
    token = secrets.token_urlsafe(32)
    with open(descriptor, "w") as file:
        file.write(token)
    return token


def _token_file(layout: Layout) -> Path:
    return layout.alertmanager / "webhook.token"


def _configuration(layout: Layout, daemon_port: int) -> dict[str, object]:
    webhook = {
        "url": f"http://127.0.0.1:{daemon_port}{WEBHOOK_PATH}",
        "send_resolved": True,
        "http_config": {"authorization": {"type": "Bearer", "credentials_file": str(_token_file(layout))}},
    }
    return {
        "route": {
            "receiver": "platform",
            "group_by": ["alertname", "service", "environment"],
            "group_wait": "0s",
            "group_interval": "5s",
            "repeat_interval": "4h",
        },
        "receivers": [{"name": "platform", "webhook_configs": [webhook]}],
    }
