"""How good the estimates are: metrics, calibration, faithfulness of the reasoning, and the reports about them."""
