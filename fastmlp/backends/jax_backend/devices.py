"""JAX's devices by name."""

from __future__ import annotations

import re
from typing import Any

import jax

from fastmlp import _checks

#: Kinds of device, as JAX calls them, the fastest first.
_PLATFORMS = ("tpu", "gpu", "cpu")
#: Bytes of data that are kept on a device that does not tell how much memory it has.
_USUAL_BYTES = 2**30


def device_names() -> list[str]:
    """Return the names of the devices that JAX has in this process, the fastest kind first.

    Examples
    --------
    >>> "cpu:0" in device_names()
    True
    """
    return [
        f"{platform}:{number}"
        for platform in _PLATFORMS
        for number, _ in enumerate(_devices(platform))
    ]


def find_device(name: str | None) -> Any:
    """Return JAX's device of a name such as "gpu" or "gpu:1"; of None, the one that JAX prefers.

    Raises
    ------
    ValueError
        If there is no such device; the message lists those there are.
    TypeError
        If it is no name.

    Examples
    --------
    >>> find_device("cpu").platform
    'cpu'
    """
    if name is None:
        preferred = jax.config.jax_default_device
        if preferred is None:
            return jax.local_devices()[0]
        return find_device(preferred) if isinstance(preferred, str) else preferred
    if not isinstance(name, str):
        raise TypeError(f"device must be a name such as 'cpu' or 'gpu:1', or None, got {name!r}")
    found = re.fullmatch(r"(\w+?)(?::(\d{1,6}))?", name)
    devices = _devices(found[1]) if found and found[1] in _PLATFORMS else []
    number = int(found[2] or 0) if found else 0
    if number >= len(devices):
        raise ValueError(f"there is no device {name!r}; JAX has {_checks.listing(device_names())}")
    return devices[number]


def memory_for_data(device: Any) -> int:
    """Return how many bytes of samples a device may keep: half of its memory, where it tells.

    Examples
    --------
    >>> memory_for_data(find_device("cpu")) > 0
    True
    """
    told = device.memory_stats() or {}
    return int(told["bytes_limit"]) // 2 if "bytes_limit" in told else _USUAL_BYTES


def _devices(platform: str) -> list[Any]:
    """Return this process's devices of a kind; none where JAX knows none of it."""
    try:
        return list(jax.local_devices(backend=platform))
    except RuntimeError:
        return []
