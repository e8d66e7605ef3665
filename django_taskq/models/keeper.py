"""The row that says which process keeps house."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .fields import InstantField


class KeeperRecord(models.Model):
    """One row per duty roster; today there is one, named ``keeper``."""

    name = models.CharField(_("name"), primary_key=True, max_length=32)
    holder = models.CharField(_("holder"), max_length=128, default="", blank=True)
    expires_at = InstantField(_("expires"))

    class Meta:
        db_table = "django_taskq_keeper"
        verbose_name = _("keeper")
        verbose_name_plural = _("keepers")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name}: {self.holder}"
