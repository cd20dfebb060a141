"""Test problems with known constants, certified optima and citations.

>>> from problems import Logistic
>>> problem = Logistic(data="breast_cancer", l2=1e-2)
>>> f, g = problem.value_and_grad(problem.start(seed=0))
"""

from optbench.core.long_names import use_long_name

use_long_name(__name__)

from .landscapes import Beale, Himmelblau, MonkeySaddle, Rosenbrock, StrictSaddle, StyblinskiTang, Valley
from .logistic import Logistic
from .mlp import MLP, LinearAutoencoder, TeacherStudent
from .quadratic import Quadratic

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
