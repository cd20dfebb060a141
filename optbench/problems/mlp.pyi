from problems.mlp import *
