"""
Paths over a landscape
======================

Each map shows the path of one method from the same start, at its best learning rate. The ring is the start, the dot the
end, and the cross the global minimizer.
"""

import optbench
from optbench import reports

runs = optbench.compare(
    "rosenbrock",
    ["gradient_descent", "momentum", "adam", "newton", "bfgs", "lbfgs"],
    lr=[1e-3, 1e-2, 1e-1],
    seeds=1,
    steps=300,
    progress=False,
)
ax = reports.paths(runs, columns=3)
