#!/usr/bin/env python3
"""A model process for edgeagent: scores rows of features with TensorFlow Lite.

    tflite_model.py MODEL.tflite [--output N | --error]

It listens at the Unix socket that EDGEAGENT_MODEL_SOCKET names and speaks the
protocol "edgeagent-model 1" (docs/reference/model-process.md). The score is the
only output, or output N, or with --error the mean squared difference between
outputs and features, for autoencoders.

Needs numpy and one of the packages ai-edge-litert, tflite-runtime, tensorflow.
"""
import argparse
import os
import socket
import stat
import sys
import threading

import numpy as np


def interpreter(path):
    """An interpreter of whichever package there is."""
    for package, name in (
        ("ai_edge_litert.interpreter", "Interpreter"),
        ("tflite_runtime.interpreter", "Interpreter"),
        ("tensorflow.lite.python.interpreter", "Interpreter"),
    ):
        try:
            module = __import__(package, fromlist=[name])
        except ImportError:
            continue
        return getattr(module, name)(model_path=path)
    sys.exit("none of ai-edge-litert, tflite-runtime and tensorflow is installed")


class Model:
    """A TensorFlow Lite model with one row of numbers in and one out."""

    def __init__(self, path, output, error):
        self.runtime = interpreter(path)
        self.runtime.allocate_tensors()
        self.input = self.runtime.get_input_details()[0]
        self.result = self.runtime.get_output_details()[0]
        self.features = int(np.prod(self.input["shape"]))
        outputs = int(np.prod(self.result["shape"]))
        if error and outputs != self.features:
            sys.exit("--error: the model has %d features and %d outputs" % (self.features, outputs))
        if not error and output is None and outputs > 1:
            sys.exit("the model has %d outputs: choose one with --output" % outputs)
        if output is not None and not 0 <= output < outputs:
            sys.exit("--output: the model has %d outputs" % outputs)
        self.output, self.error = output or 0, error

    def score(self, x):
        x = np.array(x, dtype=np.float32)
        self.runtime.set_tensor(self.input["index"], self.quantized(x).reshape(self.input["shape"]))
        self.runtime.invoke()
        y = self.real(self.runtime.get_tensor(self.result["index"])).reshape(-1)
        return float(np.mean((y - x) ** 2)) if self.error else float(y[self.output])

    def quantized(self, x):
        """x as the model wants it: integers have a scale and a zero point."""
        kind, (scale, zero) = self.input["dtype"], self.input["quantization"]
        if np.issubdtype(kind, np.floating):
            return x.astype(kind)
        if np.isnan(x).any():
            raise ValueError("a feature is missing")
        limits = np.iinfo(kind)
        return np.clip(np.round(x / scale + zero), limits.min, limits.max).astype(kind)

    def real(self, y):
        scale, zero = self.result["quantization"]
        if np.issubdtype(y.dtype, np.floating):
            return y.astype(np.float32)
        return (y.astype(np.float32) - zero) * scale


def answer(model, line):
    """The answer to one line, or None to end the connection."""
    words = line.split()
    if len(words) == 2 and words[0] == "edgeagent-model":
        if words[1] != "1":
            return "error only edgeagent-model 1"
        return "edgeagent-model 1 features=%d" % model.features
    if len(words) == 2 and words[0] == "ping":
        return "pong " + words[1]
    if len(words) < 2 or words[0] != "score":
        return None
    try:
        if len(words) != 2 + model.features:
            raise ValueError("want %d features" % model.features)
        return "score %s %r" % (words[1], model.score([float(w) for w in words[2:]]))
    except (ValueError, RuntimeError) as e:
        return "error %s %s" % (words[1], str(e).replace("\n", " ")[:200])


def end_with_the_agent():
    """Standard input ends when the agent is gone, whatever became of it."""

    def wait():
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def main():
    args = argparse.ArgumentParser()
    args.add_argument("model")
    args.add_argument("--output", type=int)
    args.add_argument("--error", action="store_true")
    args = args.parse_args()
    path = os.environ.get("EDGEAGENT_MODEL_SOCKET") or sys.exit("EDGEAGENT_MODEL_SOCKET is not set")
    model = Model(args.model, args.output, args.error)
    if stat.S_ISFIFO(os.fstat(0).st_mode):  # not under systemd, not on a terminal
        end_with_the_agent()
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    os.umask(0o077)
    listener.bind(path)
    listener.listen(1)
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("r", encoding="utf-8") as lines:
            try:
                for line in lines:
                    say = answer(model, line)
                    if say is None:
                        break
                    connection.sendall((say + "\n").encode())
            except OSError as e:
                print("connection:", e, file=sys.stderr)


if __name__ == "__main__":
    main()
