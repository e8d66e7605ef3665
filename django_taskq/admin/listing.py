"""The task list's rows: found without a count, page by page."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import ExpressionWrapper, QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.utils.translation import gettext as _

from ..core.states import State
from ..database import Now
from ..finding.content import content_has
from ..finding.pages import Cursor, Page, find
from ..finding.search import BadSearch, Search, parse
from ..models import InstantField, TaskRecord
from .permissions import may
from .wording import in_full

#: columns that may hold megabytes, and that the list does not show
LONG = ("arguments", "options", "metadata", "result", "errors", "log", "headers", "progress", "worker_ids")


#: tasks whose content is looked at for one request that acts on them
_VERIFIED = 1_001


class TaskList(ChangeList):
    """The newest first whatever the query string says: the key is the one order every database has at hand.

    ``search``: what is shown, filters included; None where what was typed is no search.
    """

    search: Search | None
    page: Page

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        """What actions act on; not what is read for the page."""
        rows: QuerySet[Any] = super().get_queryset(request, *args, **kwargs)
        return rows.defer(*LONG)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        """By id, which begins with the time it was made at."""
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        """Read one page, without a count."""
        self.search = self._search(request)
        self.page = self._page(request) if self.search is not None else Page()
        now = ExpressionWrapper(Now(), output_field=InstantField())
        rows = self.root_queryset.filter(pk__in=self.page.ids).defer(*LONG).annotate(database_now=now).order_by("-pk")
        self.result_list = list(rows)
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = False
        self.multi_page = self.page.older is not None or self.page.newer is not None
        self.paginator = Paginator(self.result_list, max(self.list_per_page, 1))

    def link(self, cursor: Cursor | None) -> str:
        """The address of the page that begins there."""
        return self.get_query_string({PAGE_VAR: None if cursor is None else str(cursor)})

    @property
    def older_link(self) -> str:
        """The address of the page with older tasks; "" without any."""
        return self.link(self.page.older) if self.page.older else ""

    @property
    def newer_link(self) -> str:
        """The address of the page with newer tasks; "" without any."""
        return self.link(self.page.newer) if self.page.newer else ""

    @property
    def newest_link(self) -> str:
        """The address of the first page; "" on that itself."""
        return self.link(None) if self.page.newer else ""

    @property
    def window_text(self) -> str:
        """How many rows were looked through at most."""
        return in_full(self.page.window)

    def _page(self, request: HttpRequest) -> Page:
        assert self.search is not None  # for the type checker
        text = request.GET.get(PAGE_VAR, "")
        try:
            cursor = Cursor.parse(text) if text else None
        except ValueError as error:
            raise IncorrectLookupParameters(error) from error
        return find(
            self.root_queryset.db,
            self.search,
            size=self.list_per_page,
            cursor=cursor,
            verify=content_has if may(request, "view_payload") else None,
        )

    def _search(self, request: HttpRequest) -> Search | None:
        try:
            search = parse(self.query)
        except BadSearch as error:
            messages.warning(request, str(error))
            return None
        if search.reads_content and not may(request, "view_payload"):
            messages.warning(request, _("Arguments and errors are only for those who may see them."))
        chosen = {name: str(self.params.get(name, "")) for name in ("state", "queue", "task")}
        if chosen["state"] not in {"", *State} or "\x00" in "".join(chosen.values()):
            raise IncorrectLookupParameters
        return search.narrowed(**chosen)


def chosen_of(text: str, rows: QuerySet[TaskRecord], request: HttpRequest) -> QuerySet[TaskRecord]:
    """The rows among these that a search means and a request is about; none where it is no search.

    Of a search that reads content: those in which who asks may see what was looked for, so that nobody learns from what
    is done what is hidden.
    """
    try:
        search = parse(text)
    except BadSearch:
        return rows.none()
    found = rows.filter(search.condition())
    if not search.reads_content:
        return found
    if not may(request, "view_payload"):
        return rows.none()
    if request.POST.get("select_across", "0") in ("", "0"):
        found = found.filter(pk__in=request.POST.getlist(ACTION_CHECKBOX_NAME))
    ids = [record.pk for record in found.order_by("-pk")[:_VERIFIED] if content_has(record, search)]
    return rows.filter(pk__in=ids)
