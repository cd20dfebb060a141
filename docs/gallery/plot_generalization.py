"""
Training and test accuracy
==========================

For problems on data, each row compares what a method reaches on the data it was trained on with what it reaches on rows
that were held out.
"""

import optbench
from optbench import reports

runs = optbench.compare(
    "logistic:data=digits,test_fraction=0.3,l2=1e-3",
    ["sgd", "momentum", "adam"],
    lr=[0.01, 0.1, 1.0],
    seeds=3,
    steps=100,
    batch_size=64,
    progress=False,
)
ax = reports.generalization(runs)
