"""The JAX backend: networks on the processor, on GPUs and on TPUs.

It needs ``pip install 'fastmlp[jax]'``, and for a GPU or a TPU the packages that JAX's own
installation guide names. Formulas are written down in `jax.numpy` and differentiated by JAX, so
that it is also an independent check of the other backends' gradients.
"""

from fastmlp.backends.jax_backend.backend import JaxBackend
from fastmlp.backends.jax_backend.devices import device_names, find_devices

__all__ = ["JaxBackend", "device_names", "find_devices"]
