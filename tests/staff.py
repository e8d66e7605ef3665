"""People who work with the admin."""

from __future__ import annotations

from django.contrib.auth.models import Permission, User
from django.test import Client


def clerk(*codenames: str) -> Client:
    """Sign somebody in who has these permissions and no others."""
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client
