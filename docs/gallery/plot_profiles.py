"""
Profiles over several problems
==============================

A profile says which fraction of the problems a method solves to an accuracy within a given amount of work.
Higher is better.
"""

import optbench
from optbench import reports

runs = optbench.compare(
    ["quadratic:dim=20,condition=10", "quadratic:dim=20,condition=1e3", "logistic", "logistic:data=wine", "valley"],
    ["gradient_descent", "momentum", "adam", "lbfgs"],
    lr=[0.01, 0.1, 1.0],
    seeds=3,
    steps=300,
    progress=False,
)

# %%
# The performance profile (Dolan & Moré 2002) counts work relative to the best method on each problem: at 1 a line shows how
# often a method is the best.
ax = reports.performance_profile(runs)

# %%
# The data profile (Moré & Wild 2009) counts oracle calls themselves.
ax = reports.data_profile(runs)

# %%
# The empirical distribution of calls to targets takes all 50 targets into account, as COCO does.
ax = reports.ecdf(runs)

# %%
# The heat map has a row for each method and a column for each problem.
ax = reports.heatmap(runs)

# %%
# Mean ranks, with intervals from a bootstrap over problems and seeds. With five problems the intervals are wide.
ax = reports.ranks(runs)
