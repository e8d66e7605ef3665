"""The subcommands of ``manage.py taskq``, a small module each: arguments, a call of a service, what is printed."""
