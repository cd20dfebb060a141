from problems.quadratic import *
