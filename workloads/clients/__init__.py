"""Clients: one protocol each, by the contract in `workloads.client`."""
