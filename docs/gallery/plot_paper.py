"""
A figure and a table for a paper
================================

Figures are ordinary matplotlib axes: set their size before, change them after, and save them as PDF.
"""

import matplotlib.pyplot as plt

import optbench
from optbench import reports

runs = optbench.compare(
    ["quadratic:dim=50", "logistic:data=wine"],
    ["gradient_descent", "adam", "lbfgs"],
    lr=[0.01, 0.1, 1.0],
    seeds=5,
    steps=300,
    progress=False,
)

figure, axes = plt.subplots(1, 2, figsize=(6.5, 2.5), layout="constrained")
for ax, problem in zip(axes, ["quadratic:dim=50", "logistic:data=wine"], strict=True):
    reports.convergence(runs, problem, ax=ax)
    ax.set_title(problem)

# %%
# The summary is a data frame, and becomes a table of LaTeX or Markdown.
table = reports.summary_table(runs)
print(reports.latex(table))
