"""Where runs are kept: the store, its folder, and what goes on just now."""
