"""ONNX, in and out.

`loading` opens files, `folding` computes constants, `reader` goes through a graph by the rules in `rules` and
`layer_rules`, `operator` and `steps` read LSTMs, and `reading` makes models of what was found.
"""
