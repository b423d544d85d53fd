"""Figures for print: loss curves, before/after, differences between arms, overlays. Loads matplotlib."""
