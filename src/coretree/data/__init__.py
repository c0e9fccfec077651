"""From files to clean columns, mergeable statistics and a frozen preparation; knows nothing of coresets or clusters."""
