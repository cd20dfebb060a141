from problems.terms import *
