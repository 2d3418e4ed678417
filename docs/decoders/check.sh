#!/bin/sh
# Runs both decoders over vectors.json and compares what they print with what the
# vectors say. Exits with 1 on any difference.
set -eu
cd "$(dirname "$0")"
exec python3 - <<'PY'
import json, subprocess, sys

DECODERS = [[sys.executable, "decode_block.py"], ["node", "decode-block.js"]]
vectors = json.load(open("vectors.json"), parse_int=float)
failed = 0

def run(decoder, block):
    p = subprocess.run([*decoder, block], capture_output=True, text=True)
    if p.returncode:
        return None, p.stderr.strip()
    return [json.loads(line, parse_int=float) for line in p.stdout.splitlines()], ""

def check(decoder, name, block, want):
    global failed
    got, why = run(decoder, block)
    if got != want:
        failed += 1
        print("FAIL %s: %s %s" % (decoder[1], name, why or "prints something else"))

for decoder in DECODERS:
    for v in vectors:
        check(decoder, v["name"], v["block"], None if v.get("refuse") else [v["decoded"]])
    good = [v for v in vectors if not v.get("refuse")]
    message = "".join(v["block"] for v in good)
    check(decoder, "all in one message", message, [v["decoded"] for v in good])
print("%d vectors, %d decoders, %d differences" % (len(vectors), len(DECODERS), failed))
sys.exit(failed > 0)
PY
