"""Rows of the users' own, written by their tasks."""

from django.db import models


class Note(models.Model):
    """A line of text: what a task leaves behind to show that it ran, or that it was rolled back."""

    text = models.TextField()

    def __str__(self) -> str:
        return self.text
