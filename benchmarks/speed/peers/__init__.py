"""Servers of others that the gateway is compared with: ``add``, ``echo`` and ``sleep``, as people write them."""
