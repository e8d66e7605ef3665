"""What operators see: log lines, metrics, traces, error reports.

Nothing here is imported by the parts that run tasks; each module loads the library it is made for, and hooks itself in
where ``django_taskq.instrument`` lets it.
"""
