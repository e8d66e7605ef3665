"""A small Django project that runs django_taskq on real work: `python manage.py demo`."""
