"""Benchmarks: one module each, with SUMMARY and run(); every figure stands beside an alternative measured with it."""
