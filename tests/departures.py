"""What a compiled program does besides computing: nothing may leave the device inside one."""

from __future__ import annotations

import re

import jax

LEAVES = re.compile(r" (infeed|outfeed|send|send-done|recv|recv-done)\(")
CUSTOM_CALL = re.compile(r' custom-call\(.*?custom_call_target="([^"]+)"')
STAYS = re.compile(r"TopK|SPMD|Sharding|__cpu\$.*|lapack_.*|annotate_device_placement")
"""Custom calls that compute. Whatever is not known to be one counts as leaving: Python callbacks are custom calls."""


def departures(program: jax.stages.Compiled) -> list[str]:
    """The instructions by which numbers leave the device, or reach it, while a program runs."""
    text = program.as_text()
    assert text, "this backend shows no text of its programs"
    calls = [target for target in CUSTOM_CALL.findall(text) if not STAYS.fullmatch(target)]
    return sorted({*LEAVES.findall(text), *calls})


def assert_stays_on_devices(program: jax.stages.Compiled | None) -> None:
    """A transfer guard would not show it: on a CPU it refuses only what goes from host to device."""
    assert program is not None
    assert departures(program) == []
