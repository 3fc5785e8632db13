"""Quantised graphs brought into one form: QuantizeLinear and DequantizeLinear around float operators."""
