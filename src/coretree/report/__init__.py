"""Results as text for people; knows facts, not where they came from."""
