from problems.network import *
