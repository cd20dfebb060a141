"""scipy.optimize: L-BFGS-B in a loop over runs, with an efficient objective."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from benchmarks.peers.numpy_peer import logistic


def lbfgs(Z: np.ndarray, l2: float, starts: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    """Minimizers (R, d) of the regularized logistic loss to a gradient norm, and the evaluations of all runs together."""
    minimizers, evaluations = [], 0
    norm = np.inf  # of the gradient at the last evaluation

    def oracle(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal norm
        f, (g,) = logistic(np, [x], (Z,), l2)
        norm = float(np.linalg.norm(g))
        return f, g

    def stop(intermediate_result: Any) -> None:
        if norm <= tolerance:  # the norm at the accepted point
            raise StopIteration

    # the stopping rules of SciPy are disabled, so that all runs end by the norm
    options = {"maxcor": 10, "ftol": 0.0, "gtol": 0.0, "maxiter": 10_000}
    # one BLAS thread, because the thread pools of NumPy and SciPy compete for the cores
    with threadpool_limits(1, "blas"):
        for x0 in starts:
            result = minimize(oracle, x0, jac=True, method="L-BFGS-B", callback=stop, options=options)
            minimizers.append(result.x)
            evaluations += result.nfev
    return np.stack(minimizers), evaluations
