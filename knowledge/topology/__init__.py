"""The calculator: a layout in; groups, experts, layers, sizes and findings out. Pure, without heavy imports."""

from knowledge.topology.calculator import compute
from knowledge.topology.layout import Layout
from knowledge.topology.result import Topology

__all__ = ["Layout", "Topology", "compute"]
