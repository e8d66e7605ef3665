"""The app's configuration."""

import warnings

from django.apps import AppConfig

from example_project.census.source import FILENAME


class CensusConfig(AppConfig):
    """Counts Python source in the background."""

    name = "example_project.census"

    def ready(self) -> None:
        """Keep the compiler's remarks on the source we count out of our own log.

        Set once for the process: `warnings.catch_warnings` around each parse would not be safe in threads.
        """
        warnings.filterwarnings("ignore", module=FILENAME)
