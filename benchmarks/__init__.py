"""The asv suite, one file per question, and the benchmarks of GPUs and other libraries."""
