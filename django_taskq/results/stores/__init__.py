"""One small module per kind of server.

A module imports its client library, which is an extra, and of ours only what lies beside this package for it:
``keyvalue``, ``address``, ``client``, ``chunks``, ``generations``, ``aws``. Nothing in here knows of tasks.
"""
