"""JAX's devices by name."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

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


def find_devices(name: str | None) -> tuple[Any, ...]:
    """Return JAX's devices of a name such as "gpu", "gpu:1", "gpu:0,1" or "gpu:*".

    A kind alone is its first device, an asterisk all of them. Of None, it is the one that JAX
    prefers.

    Raises
    ------
    ValueError
        If there is no such device, or one is named twice; the message lists those there are.
    TypeError
        If it is no name.

    Examples
    --------
    >>> [device.platform for device in find_devices("cpu:0")]
    ['cpu']
    """
    if name is None:
        preferred = jax.config.jax_default_device
        if preferred is None:
            return (jax.local_devices()[0],)
        return find_devices(preferred) if isinstance(preferred, str) else (preferred,)
    if not isinstance(name, str):
        raise TypeError(
            f"device must be a name such as 'cpu', 'gpu:1' or 'gpu:0,1', or None, got {name!r}"
        )
    found = re.fullmatch(r"(\w+?)(?::(\*|\d{1,6}(?:,\d{1,6})*))?", name)
    devices = _devices(found[1]) if found and found[1] in _PLATFORMS else []
    if found and found[2] == "*":
        numbers = list(range(len(devices)))
    else:
        numbers = [int(number) for number in (found[2] or "0").split(",")] if found else []
    if not numbers or max(numbers) >= len(devices):
        raise ValueError(f"there is no device {name!r}; JAX has {_checks.listing(device_names())}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"device names one twice, got {name!r}")
    return tuple(devices[number] for number in numbers)


def memory_for_data(devices: tuple[Any, ...]) -> int:
    """Return how many bytes of samples each device may keep: half of its memory, where it tells.

    Examples
    --------
    >>> memory_for_data(find_devices("cpu")) > 0
    True
    """
    told = [device.memory_stats() or {} for device in devices]
    return min(
        int(one["bytes_limit"]) // 2 if "bytes_limit" in one else _USUAL_BYTES for one in told
    )


def everywhere(devices: tuple[Any, ...]) -> Sharding:
    """Return where an array lies that every device holds whole.

    Examples
    --------
    >>> jax.device_put(1, everywhere(find_devices("cpu"))).is_fully_replicated
    True
    """
    return NamedSharding(Mesh(np.array(devices), ("rows",)), PartitionSpec())


def divided(devices: tuple[Any, ...], axis: int = 0) -> Sharding:
    """Return where an array lies of which every device holds its part, along one axis.

    Examples
    --------
    >>> divided(find_devices("cpu:0"), 1).shard_shape((4, 6))
    (4, 6)
    """
    return NamedSharding(Mesh(np.array(devices), ("rows",)), PartitionSpec(*[None] * axis, "rows"))


def _devices(platform: str) -> list[Any]:
    """Return this process's devices of a kind; none where JAX knows none of it."""
    try:
        return list(jax.local_devices(backend=platform))
    except RuntimeError:
        return []
