"""Puts the console together: what it shows of a gateway that serves."""

from gateway.app import Gateway
from gateway.codecs import CODECS
from gateway.endpoints import console
from gateway.endpoints.console.catalogue import Catalogue
from gateway.model.http import Admission
from gateway.process.sockets import URLs


def console_of(gateway: Gateway, urls: URLs) -> Admission:
    """Make the endpoint of the console."""
    config = gateway.config
    catalogue = Catalogue(gateway.versions, config, (urls.calls, *urls.others), tuple(CODECS))
    return console.admission(
        admit=gateway.rpc.admit,
        views={"methods": catalogue.view},
        path=config.server.paths[0],
        hosts=config.access.hosts,
        bind=config.console.bind,
    )
