"""Backends that are wrong on purpose; the conformance kit must catch each of them."""
