from reports import *
from reports import __all__ as __all__
