"""The pure part: standard library only, data in, data out, ``now`` is an argument.

Nothing here may import Django, kombu or a layer above, read a clock, or touch a database.
"""
