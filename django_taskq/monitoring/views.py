"""A page with the queues' figures, for Prometheus.

``path("taskq/", include("django_taskq.urls"))``. Who may see it: staff who may view tasks, and whoever brings the token
``TASKQ_METRICS_TOKEN`` of the settings as ``Authorization: Bearer …``. Without that setting, staff alone.
"""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .metrics import exposition

#: see gauges.CONTENT_TYPE
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """The figures in Prometheus' text format; 403 for whoever may not see them."""
    if not (_has_token(request) or _is_staff(request)):
        raise PermissionDenied("Staff who may view tasks, or the token TASKQ_METRICS_TOKEN.")
    return HttpResponse(exposition(), content_type=_CONTENT_TYPE)


def _has_token(request: HttpRequest) -> bool:
    token = getattr(settings, "TASKQ_METRICS_TOKEN", "")
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return bool(token) and scheme.lower() == "bearer" and constant_time_compare(given.strip(), token)


def _is_staff(request: HttpRequest) -> bool:
    user = getattr(request, "user", None)
    return bool(user is not None and user.is_active and user.is_staff and user.has_perm("django_taskq.view_taskrecord"))
