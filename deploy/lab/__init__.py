"""Machines on one machine: network namespaces around a router, for the demo and the lab tests."""
