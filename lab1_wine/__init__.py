"""The Wine lab: how good a wine tastes, 3 to 9, from eleven measurements and its colour."""
