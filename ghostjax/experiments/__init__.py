"""From configs to rows: what is to be done (`plan`), and doing it (`run`)."""
