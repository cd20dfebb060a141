from problems.files import *
