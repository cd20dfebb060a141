from problems.logistic import *
