"""Benchmarks: one module each, with SUMMARY and run(); every figure stands beside an alternative's from the same run."""
