"""Side-by-side speed studies, each one command: `python -m benchmarks.<name> [--json]`."""
