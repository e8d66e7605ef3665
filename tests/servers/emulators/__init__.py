"""Private emulators of what only a cloud has, and of servers that Debian does not bring.

Two are Python packages of the tests' environment (moto, gcp-storage-emulator), three come by npm (azurite,
pouchdb-server, @vercel/cosmosdb-server): ``python -m tests.servers.emulators install`` puts those into ``.servers``, and
whoever starts one without that does it then. They live and end as all of `tests.servers` do.
"""

from tests.servers.emulators.packages import install
from tests.servers.emulators.servers import (
    AzuriteServer,
    CosmosServer,
    CouchDBServer,
    Emulator,
    GCSServer,
    MotoServer,
)

__all__ = ["AzuriteServer", "CosmosServer", "CouchDBServer", "Emulator", "GCSServer", "MotoServer", "install"]
