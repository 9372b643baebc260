"""Operations: the tasks of an operator, callable without a terminal.

The room's rule: an operation takes settings and values and returns values. It parses no option and prints nothing.
"""
