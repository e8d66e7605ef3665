"""Rows to look at: nobody adds, changes or deletes them here."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..aliases import taskq_databases
from .permissions import may


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only in the stubs
    """Who has the ``view`` permission may look; no other permission exists."""

    actions: Any = None

    class Media:
        """For lists and pages."""

        css: ClassVar = {"all": ["django_taskq/admin.css", "django_taskq/themes.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Rows of the first database that holds any of ours."""
        databases = taskq_databases()
        rows = super().get_queryset(request)
        return rows.using(databases[0]) if databases else rows

    def show(self, request: HttpRequest, template: str, title: Any, /, **context: Any) -> TemplateResponse:
        """A page of its own, in the frame that all pages of the site have. ``template``: below ``admin/django_taskq/``."""
        request.current_app = self.admin_site.name  # what ``url`` in templates goes by
        frame = {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "media": self.media}
        return TemplateResponse(request, f"admin/django_taskq/{template}", {**frame, **context})

    def action_checkbox(self, obj: Any) -> SafeString:
        """Django's own, without a widget and a template for each row: they took a fifth of the time of a list."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="{}">',
            ACTION_CHECKBOX_NAME,
            obj.pk,
            # Django's own words, in its own catalogues.
            _("Select this object for an action - {}").format(obj),
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tasks are enqueued, workers are started."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Only transitions change rows."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Only transitions delete rows."""
        return False


class OnePageAdmin(ReadOnlyAdmin):
    """A page about rows of many kinds, in the place of a list of a proxy model's.

    Its rows have no pages here: Django's would show all columns to whoever may see this one.
    """

    #: the permission of ours that who looks has to have
    needs: ClassVar[str]

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """By what it ``needs``."""
        return may(request, self.needs)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """For the admin's front page."""
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        """The list's alone."""
        return [one for one in super().get_urls() if (one.name or "").endswith("_changelist")]
