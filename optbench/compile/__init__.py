"""From formulas to machine code: compiled update rules, elementwise functions, and loops over steps."""
