"""Benchmark parts of scale: cost per label as a project grows, memory, exports. run.py has the harness."""
