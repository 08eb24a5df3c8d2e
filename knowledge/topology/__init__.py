"""The calculator: a layout in; groups, experts, layers, sizes and findings out. Pure, without heavy imports."""
