"""How full the disk is, and whether anything may still be changed."""

from __future__ import annotations

from dataclasses import dataclass

from ..domain.disk import DiskLevel, DiskSpace, size_text
from ..domain.environment import LARGEST_STOP_BYTES, DiskLimits
from ..domain.errors import ErrorCode, PlatformError
from ..ports import Ports


@dataclass(frozen=True, slots=True)
class DiskState:
    space: DiskSpace
    limits: DiskLimits

    @property
    def level(self) -> DiskLevel:
        return self.space.level(self.limits)

    @property
    def words(self) -> str:
        """What people are told; empty where there is enough."""
        match self.level:
            case DiskLevel.ENOUGH:
                return ""
            case DiskLevel.LOW:
                return f"the disk is nearly full: {self.space}; changes stop below {size_text(self.limits.stop_bytes)}"
            case DiskLevel.FULL:
                needed = size_text(self.limits.stop_bytes)
                return f"the disk is too full for changes: {self.space}, and {needed} must be free"

    @property
    def problems(self) -> list[str]:
        """Why nothing can be changed."""
        return [self.words] if self.level is DiskLevel.FULL else []

    @property
    def warnings(self) -> list[str]:
        return [self.words] if self.level is DiskLevel.LOW else []


def disk_state(ports: Ports) -> DiskState:
    """Looked at afresh. Settings that cannot be read leave the defaults: they are told elsewhere."""
    try:
        limits = ports.workspace.last_good_settings().disk
    except PlatformError:
        limits = DiskLimits()
    return DiskState(ports.disk.space(), limits)


def require_space(ports: Ports) -> None:
    """Raises RESOURCE_EXHAUSTED where the disk is too full to change anything."""
    if ports.disk.space().free_bytes >= LARGEST_STOP_BYTES:
        return  # settings are not read where they cannot matter: this is asked before every change
    state = disk_state(ports)
    if state.level is DiskLevel.FULL:
        raise PlatformError(
            ErrorCode.RESOURCE_EXHAUSTED,
            state.words,
            "free some space: `du -xh --max-depth 2` shows where it is; reads and traffic go on meanwhile",
        )
