"""Test problems with known constants, certified optima and citations; each can be used alone.

>>> from problems import Logistic
>>> problem = Logistic(data="breast_cancer", l2=1e-2)
>>> f, g = problem.value_and_grad(problem.start(seed=0))
"""

from problems.quadratic import Quadratic

__optbench__ = True
__all__ = ["Quadratic"]
