"""What networks cost: counted, timed or looked up."""

from ednag.costs.counting import Costs, count_costs
from ednag.costs.latency_tables import LatencyModel, LatencyTable
from ednag.costs.model import CostModel, Limits
from ednag.costs.timing import measure_latency

__all__ = ["CostModel", "Costs", "LatencyModel", "LatencyTable", "Limits", "count_costs", "measure_latency"]
