"""Test problems with known constants, certified optima and citations; each can be used alone.

>>> from problems import Logistic
>>> problem = Logistic(data="breast_cancer", l2=1e-2)
>>> f, g = problem.value_and_grad(problem.start(seed=0))
"""

from problems.landscapes import Beale, Himmelblau, MonkeySaddle, Rosenbrock, StrictSaddle, StyblinskiTang, Valley
from problems.logistic import Logistic
from problems.mlp import MLP, LinearAutoencoder, TeacherStudent
from problems.quadratic import Quadratic

__optbench__ = True
__all__ = [
    "MLP",
    "Beale",
    "Himmelblau",
    "LinearAutoencoder",
    "Logistic",
    "MonkeySaddle",
    "Quadratic",
    "Rosenbrock",
    "StrictSaddle",
    "StyblinskiTang",
    "TeacherStudent",
    "Valley",
]
