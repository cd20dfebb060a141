"""The package `reports` under a name that no package of yours can take, see `optbench.core.long_names`."""

from optbench.core.long_names import load_sibling

load_sibling(__name__)
