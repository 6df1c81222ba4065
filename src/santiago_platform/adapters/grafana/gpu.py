"""GPUs, as NVIDIA's DCGM exporter counts them."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from .panel import CELSIUS, MEBIBYTES, PERCENT, RATIO, SHORT, WATT, board, graph, number, row, variable

HERE = 'Hostname=~"$Hostname"'
GPU = "{{Hostname}} {{gpu}}"


def _of(metric: str) -> str:
    return f"DCGM_FI_{metric}{{{HERE}}}"


def gpu() -> Dashboard:
    """Utilisation says that a kernel ran at all; whether it used the chip, the engines' activity says."""
    used, free = _of("DEV_FB_USED"), _of("DEV_FB_FREE")
    return (
        board(
            "gpu",
            "Santiago / GPU",
            "Utilisation, memory, temperature, power and errors of GPUs, by NVIDIA DCGM.",
            variable("Hostname", "Host", "DCGM_FI_DEV_GPU_UTIL", every=True),
        )
        .with_panel(number("GPUs", SHORT, f"count({_of('DEV_GPU_UTIL')})"))
        .with_panel(number("Utilisation", PERCENT, f"avg({_of('DEV_GPU_UTIL')})"))
        .with_panel(number("Memory used", RATIO, f"sum({used}) / (sum({used}) + sum({free}))", edges=(0.9, 0.97)))
        .with_panel(number("Hottest", CELSIUS, f"max({_of('DEV_GPU_TEMP')})", edges=(80, 88)))
        .with_panel(number("Power", WATT, f"sum({_of('DEV_POWER_USAGE')})"))
        .with_panel(number("With XID errors", SHORT, f"count({_of('DEV_XID_ERRORS')} > 0) or vector(0)", edges=(1,)))
        .with_row(row("Use"))
        .with_panel(graph("Utilisation", PERCENT, (_of("DEV_GPU_UTIL"), GPU), says="Share of time with a kernel."))
        .with_panel(graph("Engine activity", RATIO, (_of("PROF_GR_ENGINE_ACTIVE"), GPU)))
        .with_panel(graph("Tensor core activity", RATIO, (_of("PROF_PIPE_TENSOR_ACTIVE"), GPU)))
        .with_panel(graph("Memory used", MEBIBYTES, (used, GPU)))
        .with_panel(graph("Memory bandwidth in use", RATIO, (_of("PROF_DRAM_ACTIVE"), GPU)))
        .with_panel(graph("SM clock", "hertz", (f"{_of('DEV_SM_CLOCK')} * 1e6", GPU)))
        .with_row(row("Health"))
        .with_panel(graph("Temperature", CELSIUS, (_of("DEV_GPU_TEMP"), GPU)))
        .with_panel(graph("Power", WATT, (_of("DEV_POWER_USAGE"), GPU)))
        .with_panel(
            graph(
                "Errors",
                SHORT,
                (_of("DEV_XID_ERRORS"), f"XID {GPU}"),
                (f"increase({_of('DEV_PCIE_REPLAY_COUNTER')}[$__rate_interval])", f"PCIe replays {GPU}"),
            )
        )
    )
