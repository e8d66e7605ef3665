"""Who may do what."""

from __future__ import annotations

from django.http import HttpRequest


def may(request: HttpRequest, codename: str) -> bool:
    """Whether who asks has this permission of ours."""
    return request.user.has_perm(f"django_taskq.{codename}")
