"""Carrying plans out: in threads here, or on a Dask cluster; the only package with side effects on the world."""
