"""RKLLM through ctypes: the only package that knows the C interface."""
