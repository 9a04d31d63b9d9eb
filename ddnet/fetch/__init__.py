"""Fetching of datasets and weights: local copies, resumed downloads, safe unpacking, and a manifest of digests."""

from ddnet.fetch.item import Fetched, ItemStatus, fetch_item, status_item, verify_item
from ddnet.fetch.policy import Policy
from ddnet.fetch.put import put_item, unpack_zip
from ddnet.fetch.record import network_path, read_fetched, write_fetched
from ddnet.fetch.wanted import Wanted, by_name, scan_folder

__all__ = [
    "Fetched",
    "ItemStatus",
    "Policy",
    "Wanted",
    "by_name",
    "fetch_item",
    "network_path",
    "put_item",
    "read_fetched",
    "scan_folder",
    "status_item",
    "unpack_zip",
    "verify_item",
    "write_fetched",
]
