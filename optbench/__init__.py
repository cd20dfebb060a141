"""optbench: an honest benchmark of gradient-based optimizers."""

__optbench__ = True
__version__ = "0.1.0"
