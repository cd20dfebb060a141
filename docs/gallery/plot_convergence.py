"""
Convergence of several methods
==============================

Each line is the smallest gap found so far at a method's best settings: the median over seeds, with a band from the first to
the third quartile. Both axes are logarithmic. Lower and further left is better.
"""

import optbench
from optbench import reports

runs = optbench.compare(
    "quadratic:dim=50,condition=100",
    ["gradient_descent", "momentum", "adam", "lbfgs"],
    lr=[0.01, 0.03, 0.1, 0.3, 1.0],
    seeds=5,
    steps=300,
    progress=False,
)
ax = reports.convergence(runs)
