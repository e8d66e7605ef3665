"""The admin, another site beside it, and the metrics, for the tests that look at them."""

from django.contrib import admin
from django.urls import include, path

from django_taskq.admin import register

#: A site of the project's own, with other pages than the usual one.
operations = admin.AdminSite(name="operations")
register(operations)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("operations/", operations.urls),
    path("taskq/", include("django_taskq.urls")),
]
