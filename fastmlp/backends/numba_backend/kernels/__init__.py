"""The element-wise kernels, each beside the code by which programs know it.

Their plain counterparts in `fastmlp.activations`, `fastmlp.losses`, `fastmlp.optimizers` and
`fastmlp.regularization` define what is right.
"""
