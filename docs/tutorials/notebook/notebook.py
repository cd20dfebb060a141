"""
Work in a notebook
==================

This tutorial runs comparisons from Python, looks at the results as tables and figures, and combines them with earlier ones.
You can download it as a Jupyter notebook at the bottom of the page. It needs optbench and a notebook, for example
``pip install jupyterlab``.
"""

# %%
# Compare
# -------
# `optbench.compare` runs every optimizer on every problem, over a grid of learning rates and several seeds. Problems and
# optimizers are given by name, with parameters after a colon.

import numpy as np

import optbench
from optbench import reports

runs = optbench.compare(
    ["quadratic:dim=50,condition=1000", "logistic:data=breast_cancer"],
    ["gradient_descent", "momentum", "adam", "lbfgs"],
    lr=np.geomspace(1e-2, 10, 10),
    seeds=3,
    steps=200,
)

# %%
# The result is an object of class `optbench.Runs`. A notebook shows it as a summary: one line for each problem and
# optimizer, at the optimizer's best settings, the best optimizer first.

runs

# %%
# *calls to 1e-4* is the median number of oracle calls until the gap f - f* was at most 1e-4 of its initial value. A star
# marks a learning rate at the edge of the grid.
#
# A long call shows a progress bar. A call is small enough for a notebook if it takes seconds; larger ones belong in a study
# that keeps its results in a folder, see the last section.

# %%
# Look at the tables
# ------------------
# `runs.table` is a pandas table with one row for each run: its settings, how it ended, and what it reached.

runs.table[["problem", "method", "lr", "seed", "status", "calls", "gap_end"]].head()

# %%
# How many runs diverged, and at which learning rates?

diverged = runs.table[runs.table["status"] == "diverged"]
diverged.groupby(["problem", "method"])["lr"].agg(["count", "min"])

# %%
# `runs.curves` has one row for each run and recorded iterate: the number of steps ``t``, the oracle calls, the objective,
# the gap, and metrics of the problem such as the accuracy.

runs.curves[["problem", "method", "step_size", "seed", "t", "calls", "f", "gap", "train_accuracy"]].tail()

# %%
# Draw figures
# ------------
# The figures of the report are functions in `optbench.reports`. They return axes of matplotlib. `reports.convergence` draws
# the gap against oracle calls, for each optimizer at its best settings. Lines are medians over seeds; bands reach from the
# lower to the upper quartile.

ax = reports.convergence(runs, problem="quadratic:dim=50,condition=1000")

# %%
# How much depends on the learning rate? A wide, flat valley means that the optimizer is easy to tune.

ax = reports.sensitivity(runs, problem="logistic:data=breast_cancer")

# %%
# A part of the curves can be drawn as well. This one has a single seed:

ax = reports.convergence(runs.curves.query("seed == 0"), problem="logistic:data=breast_cancer")

# %%
# Everything else is pandas and matplotlib. For example, the accuracy of momentum against its learning rate, at the end of
# each run:

curves = runs.curves.query("method == 'momentum' and problem == 'logistic:data=breast_cancer'")
last = curves.loc[curves.groupby("key")["t"].idxmax()]
ax = last.groupby("step_size")["train_accuracy"].median().plot(logx=True, marker="o")
ax.set(xlabel="learning rate", ylabel="training accuracy after 200 steps")

# %%
# See the paths in two dimensions
# -------------------------------
# For problems in the plane, the paths of the optimizers are stored too. `checkpoint_count` asks for every iterate to be
# recorded.

plane = optbench.compare(
    "rosenbrock",
    ["gradient_descent", "momentum", "adam", "bfgs"],
    lr=np.geomspace(1e-4, 1, 9),
    seeds=1,
    steps=200,
    checkpoint_count=201,
)
ax = reports.paths(plane)

# %%
# Add runs
# --------
# Results can be added. Here an optimizer that is defined in the notebook joins the comparison. A rule is a function of the
# iterate ``x``, the gradient ``g``, the step number ``t``, its state and its hyperparameters; see
# :doc:`/how-to/optimizer`.


def sign_momentum(xp, x, g, t, v, lr=0.01, beta=0.9):
    """Steps of equal size along the sign of the average gradient."""
    v = beta * v + (1 - beta) * g
    return x - lr * xp.sign(v), v


more = optbench.compare("logistic:data=breast_cancer", sign_momentum, lr=np.geomspace(1e-3, 1, 10), seeds=3, steps=200)
runs + more

# %%
# Use a problem on its own
# ------------------------
# Problems are ordinary objects. They give values and gradients for one point of shape (d,) or for many of shape (..., d),
# so that any optimizer can use them.

from scipy.optimize import minimize

from optbench.problems import Logistic

problem = Logistic(data="breast_cancer", l2=1e-2)
result = minimize(problem.value_and_grad, problem.start(seed=0), jac=True, method="L-BFGS-B")
print(
    f"{result.nfev} calls, gap {result.fun - problem.f_star:.1e}, "
    f"accuracy {problem.metrics(result.x)['train_accuracy']:.3f}"
)

# %%
# Keep results
# ------------
# With ``store``, runs are kept in a folder, and a call that is repeated or extended computes only what is missing.
# `optbench.report` writes the whole report, a single HTML file.

stored = optbench.compare(
    "quadratic:dim=20", ["gradient_descent", "momentum"], lr=[0.1, 1], seeds=2, steps=100, store="results"
)
page = optbench.report("results", title="A small comparison")
print(page)

# %%
# By default, calls from Python compute in the process of the notebook. ``jobs=None`` uses all cores where that pays. Worker
# processes cannot see functions that are defined in a notebook, so put optimizers and problems of your own into a file and
# import them.
#
# Next: :doc:`/how-to/figures` for figures in papers, and :doc:`/how-to/export` for results in other tools.
