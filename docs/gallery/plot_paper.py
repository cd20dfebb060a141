"""
A figure and a table for a paper
================================

Figures are ordinary matplotlib axes: set their size before, change them after, and save them as PDF.
"""

import matplotlib.pyplot as plt
import numpy as np

import optbench
from optbench import reports

runs = optbench.compare(
    ["quadratic:dim=50", "logistic:data=wine"],
    ["gradient_descent", "adam", "lbfgs"],
    lr=np.geomspace(1e-2, 10, 10),
    seeds=5,
    steps=300,
    progress=False,
)

figure, axes = plt.subplots(2, 1, figsize=(5.5, 5.6), layout="constrained")
for ax, problem in zip(axes, ["quadratic:dim=50", "logistic:data=wine"], strict=True):
    reports.convergence(runs, problem, ax=ax, guides=False)
    ax.set_title(problem, loc="left")

# %%
# The summary is a data frame, and becomes a table of LaTeX or Markdown.
table = reports.summary_table(runs)
print(reports.latex(table))
