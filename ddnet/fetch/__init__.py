"""Fetching of datasets and weights: local copies, resumed downloads, safe unpacking, and a manifest of digests."""

from ddnet.fetch.item import Fetched, ItemStatus, fetch_item, status_item, verify_item
from ddnet.fetch.policy import Policy
from ddnet.fetch.wanted import Wanted

__all__ = ["Fetched", "ItemStatus", "Policy", "Wanted", "fetch_item", "status_item", "verify_item"]
