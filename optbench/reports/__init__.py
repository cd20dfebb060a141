"""The package `reports` under a name that no package of yours can take, see `optbench.core.names`."""

from optbench.core.names import load_sibling

load_sibling(__name__)
