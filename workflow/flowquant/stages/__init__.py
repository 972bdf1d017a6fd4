"""Command lines, one module for each rule.

All raise `UserError` where a file is missing, unreadable or not what it should be; their docstrings
say what else they refuse.
"""
