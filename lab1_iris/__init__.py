"""The Iris lab: which of three irises a flower is, from four lengths in centimetres."""
