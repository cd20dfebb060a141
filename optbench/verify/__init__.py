"""Checks of what a problem states: gradients and Hessians against differences, optima, shapes."""
