from problems.landscapes import *
