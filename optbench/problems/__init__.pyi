from problems import *
from problems import __all__ as __all__
