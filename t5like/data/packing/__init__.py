"""Packing: which documents share a row, computed once by `prepare` and kept in tables beside the store."""
