"""Products of rows with panels: tiles, their heights, packing, and what is asked for ahead."""
