"""Triton kernels: on GPUs what :mod:`nnunet_fganet.compiled` is on CPUs.

Images have channels last, ``(batch, height, width, channels)``, contiguous, in float32, float16 or bfloat16;
sums are float32. Only :mod:`nnunet_fganet.gpu.sampling` has gradients.
"""
