"""The asv suite, on the workloads of ``python -m arrayopt bench``."""
