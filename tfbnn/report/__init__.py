"""The report of a trained model, one HTML file, and its model card."""

from tfbnn.report.evidence import Evidence, gather, of_trained, read_held_out
from tfbnn.report.model_card import model_card
from tfbnn.report.page import html_report
from tfbnn.report.write import write_report, write_text

__all__ = [
    "Evidence",
    "gather",
    "html_report",
    "model_card",
    "of_trained",
    "read_held_out",
    "write_report",
    "write_text",
]
