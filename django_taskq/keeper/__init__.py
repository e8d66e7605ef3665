"""Housekeeping, done by every worker and by one at a time: what is due, who is lost, what is old."""
