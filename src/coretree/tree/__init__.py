"""Nodes named by their content, the pure plan that makes them, the store that keeps them, and their coresets."""
