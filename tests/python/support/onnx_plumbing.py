"""Random ONNX graphs around LSTMs: what exporters write, and what no exporter would, by chance."""

import numpy as np
import onnx_graphs
from onnx import helper
from onnx_graphs import constants, normal

STEPS, ROWS, SIZE = 5, 3, 4


class Plumber:
    """Makes a graph node by node, and knows the axes of what it has: letters, with sizes of features."""

    def __init__(self, seed):
        self.random = np.random.RandomState(seed)
        self.nodes, self.weights, self.count = [], [], 0
        self.frozen = self.random.randint(2)  # whether the file fixes steps and rows

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def constant(self, array):
        name = self.name()
        self.weights += constants(**{name: array})
        return name

    def add(self, op_type, *inputs, outputs=1, **attributes):
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name=f"{op_type} {names[0]}", **attributes))
        return names[0] if outputs == 1 else names

    def chance(self, share=0.5):
        return self.random.random_sample() < share

    def choice(self, *options):
        return options[self.random.randint(len(options))]

    def whole(self, *numbers):
        return self.constant(np.array(numbers, np.int64))

    def start(self, x, directions, hidden):
        """A start state of zeros, or of the same numbers for all rows, or none."""
        kind = self.choice("none", "none", "zeros of a shape", "frozen", "expanded")
        if kind == "none":
            return ["", ""]
        if kind == "frozen":
            return [self.constant(np.zeros((directions, ROWS, hidden), np.float32))] * 2 if self.frozen else ["", ""]
        shape = self.add("Shape", x)
        rows = self.add("Gather", shape, self.constant(np.array(1)), axis=0)
        rows = self.add("Unsqueeze", rows, self.whole(0))
        shape = self.add("Concat", self.whole(directions), rows, self.whole(hidden), axis=0)
        if kind == "expanded":
            return [self.add("Expand", self.constant(normal(self.count, directions, 1, hidden)), shape) for _ in "hc"]
        return [self.add("ConstantOfShape", shape)] * 2

    def lstm(self, x, size):
        """An LSTM on (T, N, size): Y, Y_h, and how many directions there are."""
        direction = self.choice("forward", "forward", "reverse", "bidirectional")
        directions, hidden = 1 + (direction == "bidirectional"), int(self.choice(1, 5, 6))
        inputs = [
            self.constant(normal(self.count + k, directions, 4 * hidden, n)) for k, n in enumerate((size, hidden))
        ]
        inputs += [self.constant(normal(self.count, directions, 8 * hidden)) if self.chance() else "", ""]
        inputs += self.start(x, directions, hidden)
        y, y_h, _ = self.add("LSTM", x, *inputs, outputs=3, direction=direction, hidden_size=hidden)
        return y, y_h, directions, hidden

    def joined(self, y, directions):
        """(T, N, features) from (T, D, N, H), mostly."""
        if directions == 1:
            kind = self.choice("squeeze", "reshape", "transposed", "gather")
            if kind == "squeeze":
                return self.add("Squeeze", y, self.whole(1))
            if kind == "gather":
                return self.add("Gather", y, self.constant(np.array(0)), axis=1)
            if kind == "transposed":
                return self.add("Transpose", self.add("Squeeze", self.add("Transpose", y, perm=[2, 1, 0, 3]),
                                                      self.whole(1)), perm=[1, 0, 2])  # fmt: skip
        kind = self.choice("reshape", "frozen", "slices", "split", "sum", "wrong order", "no transpose")
        if kind in ("reshape", "frozen") or directions == 1:
            shape = (0, 0, -1) if kind != "frozen" or not self.frozen else (STEPS, ROWS, -1)
            return self.add("Reshape", self.add("Transpose", y, perm=[0, 2, 1, 3]), self.whole(*shape))
        if kind == "no transpose":  # the numbers of other rows side by side
            shape = (STEPS, ROWS, -1) if self.frozen else (0, -1, 2)
            return self.add("Reshape", y, self.whole(*shape)) if self.frozen else self.joined(y, directions)
        if kind == "slices":
            parts = [self.add("Slice", y, self.whole(k), self.whole(k + 1), self.whole(1)) for k in (0, 1)]
        else:
            parts = self.add("Split", y, self.whole(1, 1), outputs=2, axis=1)
        parts = [self.add("Squeeze", part, self.whole(1)) for part in parts]
        if kind == "sum":
            return self.add("Add", parts[0], parts[0] if self.chance(0.3) else parts[1])
        return self.add("Concat", *(parts[::-1] if kind == "wrong order" else parts), axis=2)

    def between(self, x, size):
        """What may stand after an LSTM, on (T, N, size): the result and its size."""
        kind = self.choice("nothing", "nothing", "linear", "gemm", "swap twice", "reverse", "scale", "residual", "cut")
        if kind in ("linear", "gemm"):
            out = int(self.choice(1, 2, 6))
            matrix, bias = self.constant(normal(self.count, size, out)), self.constant(normal(self.count, out))
            if kind == "linear":
                x = self.add("MatMul", x, matrix)
                x = self.add("Add", *((bias, x) if self.chance() else (x, bias)))
            else:
                shape = self.add("Shape", x)
                lead = self.add("Slice", shape, self.whole(0), self.whole(2))
                flat = self.add("Gemm", self.add("Reshape", x, self.whole(-1, size)), matrix, bias)
                x = self.add("Reshape", flat, self.add("Concat", lead, self.whole(-1), axis=0))
            return (self.add(self.choice("Relu", "Sigmoid", "Tanh", "Elu"), x) if self.chance() else x), out
        if kind == "swap twice":
            return self.add("Transpose", self.add("Transpose", x, perm=[1, 0, 2]), perm=[1, 0, 2]), size
        if kind == "reverse":
            return self.add("Slice", x, self.whole(-1), self.whole(-(2**62)), self.whole(0), self.whole(-1)), size
        if kind == "scale":
            return self.add(
                "Mul", x, self.constant(normal(self.count, size) if self.chance() else np.float32(0.5))
            ), size
        if kind == "residual":
            return self.add("Add", x, self.add("Relu", x)), size
        if kind == "cut" and size > 1:
            return self.add("Slice", x, self.whole(0), self.whole(size - 1), self.whole(2)), size - 1
        return x, size

    def end(self, x, y_h, directions):
        """What is given."""
        kind = self.choice("all", "all", "all", "last", "gather", "first", "state", "mean", "max", "rows")
        if kind == "last":
            x = self.add("Slice", x, self.whole(-1), self.whole(2**62), self.whole(0))
            return self.add("Squeeze", x, self.whole(0))
        if kind in ("gather", "first"):
            index = 0 if kind == "first" else STEPS - 1 if self.frozen else -1
            return self.add("Gather", x, self.constant(np.array(index)), axis=0)
        if kind == "state":
            if directions == 1:
                return self.add("Squeeze", y_h, self.whole(0))
            rows = self.add("Transpose", y_h, perm=[1, 0, 2])
            return self.add("Reshape", rows, self.whole(0, -1))
        if kind in ("mean", "max", "rows"):
            axis = 1 if kind == "rows" else 0
            return self.add("ReduceMax" if kind == "max" else "ReduceMean", x, axes=[axis], keepdims=0)
        return x

    def graph(self):
        """The model, and an input for it."""
        batch_first = self.chance()
        axes = ["N", "T"] if batch_first else ["T", "N"]
        sizes = {"T": STEPS, "N": ROWS}
        dims = [sizes[axis] if self.frozen else axis for axis in axes]
        x = self.add("Transpose", "x", perm=[1, 0, 2]) if batch_first else "x"
        size = SIZE
        for _ in range(self.random.randint(1, 4)):
            x, size = self.between(x, size) if self.chance(0.3) else (x, size)
            y, y_h, directions, hidden = self.lstm(x, size)
            x = self.joined(y, directions)
            size = hidden * directions if self.nodes[-1].op_type != "Add" else hidden
            x, size = self.between(x, size)
        result = self.end(x, y_h, directions)
        if batch_first and result == x and self.chance(0.9):
            result = self.add("Transpose", x, perm=[1, 0, 2])
        self.nodes.append(helper.make_node("Identity", [result], ["out"]))
        model = onnx_graphs.model(self.nodes, {"x": [*dims, SIZE]}, {"out": None}, self.weights)
        return model, normal(99, *(sizes[axis] for axis in axes), SIZE)


def random_graph(seed):
    return Plumber(seed).graph()
