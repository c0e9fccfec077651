"""Coresets: scores, priority sketches, totals at a pilot model, and calibration; numpy and scipy only."""
