"""
Sensitivity to the learning rate
================================

Each line is the gap at the end of the budget against the learning rate, the median over seeds. A wide, flat valley means
that the learning rate need not be known well; a mark at the top means that runs diverged there.
"""

import numpy as np

import optbench
from optbench import reports

runs = optbench.compare(
    "logistic",
    ["gradient_descent", "momentum", "adam"],
    lr=np.geomspace(1e-3, 100, 16),
    seeds=3,
    steps=100,
    progress=False,
)
ax = reports.sensitivity(runs)
