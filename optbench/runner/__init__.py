"""Plans, the loop over steps, worker processes, studies and races."""
