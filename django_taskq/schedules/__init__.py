"""Schedules as values: what they say, when they are due, what is wrong with them, and those that stand in code.

Nothing in here reads or writes rows.
"""
