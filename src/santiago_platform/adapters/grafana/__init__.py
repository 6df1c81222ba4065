"""Dashboards for Grafana, and the files that provision them."""
