"""From problems and optimizers to results: plans, the loop over steps, worker processes, races and studies."""
