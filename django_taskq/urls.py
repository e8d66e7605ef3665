"""``path("taskq/", include("django_taskq.urls"))``: pages for machines. Needs the extra ``prometheus``."""

from __future__ import annotations

from django.urls import path

from .monitoring.views import metrics

app_name = "django_taskq"

urlpatterns = [path("metrics/", metrics, name="metrics")]
