"""What every other package builds on: backends, registries, random streams, worker processes, traces. No optimization."""
