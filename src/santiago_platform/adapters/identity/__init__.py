"""Callers whom others vouch for."""
