"""Answers the requests of tools/remote.py with DeepSparse, in a Python that has it: deepsparse_worker.py

This file is run by that Python, 3.10 or 3.11, and uses nothing of gossamer.
"""

import json
import os
import sys
import time
from typing import Any

os.environ["NM_DISABLE_ANALYTICS"] = "True"

import numpy as np
import onnx
from deepsparse.engine import Engine

Json = dict[str, Any]
NEWEST_IR = 9  # of the onnxruntime inside DeepSparse 1.8
FEWEST = 3  # timed runs in a turn, however long one takes


class Answering:
    """One open engine."""

    def open(self, wanted: Json) -> Json:
        """Open a model; its name is the address."""
        model = onnx.load(wanted["model"])
        model.ir_version = min(model.ir_version, NEWEST_IR)
        onnx.save(model, wanted["copy"])
        self.engine = Engine(model=wanted["copy"], batch_size=1, num_cores=wanted["threads"])
        if self.engine.fraction_of_supported_ops == 0:
            return {"error": "it supports no part of the graph, which its own onnxruntime would run"}
        return {}

    def feeds(self, wanted: list[Json]) -> Json:
        """Read the inputs, in the order that the engine wants."""
        arrays = {i["name"]: np.fromfile(i["address"], i["type"]).reshape(i["shape"]) for i in wanted}
        self.inputs = [arrays[name] for name in self.engine.input_names]
        return {}

    def turn(self, seconds: float) -> Json:
        """Nanoseconds of each run, after an untimed one."""
        self.engine.run(self.inputs, val_inp=False)
        times: list[int] = []
        end = time.perf_counter_ns() + int(seconds * 1e9)
        while len(times) < FEWEST or time.perf_counter_ns() < end:
            start = time.perf_counter_ns()
            self.engine.run(self.inputs, val_inp=False)
            times.append(time.perf_counter_ns() - start)
        return {"times": times}

    def compute(self, wanted: list[Json]) -> Json:
        """Write the outputs that are asked for."""
        arrays = self.engine.run(self.inputs, val_inp=False)
        results = dict(zip(self.engine.output_names, arrays, strict=True))
        outputs = []
        for output in wanted:
            array = results[output["name"]]
            array.tofile(output["address"])
            outputs.append({"type": array.dtype.name, "shape": list(array.shape)})
        return {"outputs": outputs}


def main() -> None:
    """Serve until the pipe closes; what the library prints goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answering = Answering()
    for line in sys.stdin:
        ((what, value),) = json.loads(line).items()
        try:
            reply = getattr(answering, what)(value)
        except Exception as error:
            reply = {"error": str(error)}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
