"""The admin and the metrics, for the tests that look at them."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("taskq/", include("django_taskq.urls"))]
