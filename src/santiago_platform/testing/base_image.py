"""A tiny base image, and a service that runs in it: busybox, and nothing else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from ..adapters.artifacts.base_image import machine_platform
from ..adapters.artifacts.oci import CONFIG, LAYER, ImageLayout, canonical, manifest_of
from ..adapters.local.binaries import CONTAINERS, Package, fetch, find_in

_BUSYBOX = Package("busybox-static", {"busybox": "bin/busybox"})
_APPLETS = ("sh", "cat", "echo", "env", "httpd", "id", "ls", "nc", "sleep", "test", "touch", "true", "wget")
FOUND_BY_PROBES = "/etc/from-the-image"  # a file of the image

# MODE tells what it does wrong. Process 1 of a container has no signal handlers but its own.
SERVICE = """\
trap 'echo ended gracefully; exit 0' TERM
[ "$MODE" != "ignores TERM" ] || trap '' TERM
case $MODE in
  "exits "*) exit "${MODE#exits }" ;;
  "listens nowhere") sleep 1000 & wait ;;
  "takes memory") x=0123456789abcdef; while :; do x=$x$x; done ;;
esac
echo "serving $PORT"
httpd -f -p "127.0.0.1:$PORT" -h . &
wait
"""
SCORE = """\
apiVersion: score.dev/v1b1
metadata: {name: NAME}
containers:
  main:
    image: .
    command: [sh, serve.sh]
    variables: {VERSION: "1"}
    readinessProbe: {httpGet: {path: /healthz, port: 8080}}
service: {ports: {http: {port: 8080}}}
"""


def fetch_podman() -> None:
    """podman with all that it needs, fetched where it is not on PATH."""
    fetch(packages=(CONTAINERS,))


def write_base_image(into: Path) -> str:
    """Makes an OCI layout of one image with busybox. Returns the manifest's digest."""
    into.mkdir(parents=True)
    image = ImageLayout(into)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            _add(tar, folder, tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755)
        _add(tar, "bin/busybox", content=_busybox().read_bytes(), mode=0o755)
        for name in _APPLETS:
            _add(tar, f"bin/{name}", tarfile.SYMTYPE, link="busybox")
        _add(tar, FOUND_BY_PROBES.removeprefix("/"), content=b"yes\n")
    with image.exclusive():
        layer = image.put(archive.getvalue(), LAYER)
        config = machine_platform() | {
            "config": {"Env": ["PATH=/bin", "FROM_IMAGE=1"], "Labels": {"made-by": "a test"}},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }
        manifest = image.put_manifest(manifest_of(image.put(canonical(config), CONFIG), [layer]))
        image.replace_manifests([manifest])
    return str(manifest["digest"])


def write_service(root: Path, name: str = "web", base: str = "base") -> None:
    """A service of the workspace `root` whose release is laid over the image in `root/base`."""
    folder = root / "services" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "score.yaml").write_text(SCORE.replace("NAME", name))
    (folder / "build.yaml").write_text(f"base: {{oci_layout: {base}}}\noutputs: [serve.sh, index.html, healthz]\n")
    for file, text in {"serve.sh": SERVICE, "index.html": "version 1\n", "healthz": "well\n"}.items():
        (folder / file).write_text(text)


def _busybox() -> Path:
    """The static one, fetched where it is not on PATH."""
    fetch(packages=(_BUSYBOX,))
    found = find_in(_BUSYBOX, "busybox")
    assert found is not None, "the package busybox-static has no bin/busybox"
    return found.path


def _add(
    tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, *, content: bytes = b"", **shape: object
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(content)
    member.mode = int(str(shape.get("mode", 0o644)))
    member.linkname = str(shape.get("link", ""))
    tar.addfile(member, io.BytesIO(content))
