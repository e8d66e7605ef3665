"""An app that watches: traces, Sentry and signals, into the files of the directory ``TASKQ_WATCHED``."""
