from problems.learning import *
