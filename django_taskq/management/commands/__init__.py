"""Commands of ``manage.py``: they parse, call a service, print."""
