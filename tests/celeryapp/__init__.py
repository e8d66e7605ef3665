"""A Celery project beside ours, on the same broker: what it sends, and what its worker runs.

``theirs`` is its app and ``client`` its caller; both run in processes of their own, and nobody else imports Celery.
``ours`` has the tasks of the same names for our worker.
"""
