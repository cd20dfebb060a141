"""
Time of a step
==============

A race times single runs in turn and compares them within rounds. These times belong to the machine that built this page,
which may have been busy.
"""

import optbench
from optbench import reports

race = optbench.race("quadratic:dim=200", ["sgd", "adam", "lbfgs"], steps=200, rounds=5)
ax = reports.speed(race)
