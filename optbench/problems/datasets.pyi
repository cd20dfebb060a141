from problems.datasets import *
