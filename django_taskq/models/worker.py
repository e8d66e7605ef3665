"""One row per worker process that is alive, or was lost and not yet noticed."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import InstantField


class WorkerRecord(models.Model):
    """A worker process. Its heartbeat is the lease on all tasks it has claimed."""

    id = models.CharField(_("id"), primary_key=True, max_length=128, editable=False)
    name = models.CharField(_("name"), max_length=64)
    hostname = models.CharField(_("host"), max_length=255)
    pid = models.IntegerField(_("process id"))
    backends = models.CharField(_("backends"), max_length=255)
    queues = models.TextField(_("queues"), help_text=_("as given on the command line"))
    slots = models.IntegerField(_("slots"))
    started_at = InstantField(_("started"))
    heartbeat_at = InstantField(_("heartbeat"))
    #: seconds after the heartbeat until the worker counts as lost; its own, since settings differ between hosts
    lease = models.FloatField(_("lease"), default=30.0)

    class Meta:
        db_table = "django_taskq_worker"
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.id
