"""The deterministic heart: prepares transactions, applies them, answers reads, keeps sessions and watches. No I/O."""
