"""What ``python -m arrayopt demo`` does: a network in NumPy, trained by every algorithm.

Importing this package imports none of the libraries of the extra ``arrayopt[demo]``; its modules
do, save `recipes`.
"""
