"""Our JSON <-> msgpack beside Python's json and python3-msgpack (Debian): thousands of random values
through the filter msgpack_peer, both ways. Usage: test_msgpack_peer.py MSGPACK_PEER [SEED]; exits
77 (skipped) where python3-msgpack is not installed."""
import json
import math
import random
import struct
import subprocess
import sys

try:
    import msgpack
except ImportError:
    print("python3-msgpack is not installed")
    sys.exit(77)

ROUNDS = 4000


def number(r):
    kind = r.randrange(5)
    if kind == 0:
        return r.getrandbits(r.randrange(1, 65))
    if kind == 1:
        return -r.getrandbits(r.randrange(1, 64)) - r.randrange(2)
    if kind == 2:
        v = struct.unpack(">d", r.randbytes(8))[0]
        return v if math.isfinite(v) else 0.5
    if kind == 3:
        return r.randrange(-10**6, 10**6) / 10 ** r.randrange(7)
    return r.choice([0, -1, -32, -33, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1,
                     2**63, 2**64 - 1, -2**31, -2**31 - 1, -2**63, 0.0, -0.0, 1e22, 5e-324])


def text(r):
    size = r.choice([0, 1, 5, 31, 32, 33, 255, 256, 300])
    chars = r.choice(["abc", "a\"\\\n\x00/", "é€😀\x7f", "a\ud7ff\ue000\uffff\U0010ffff"])
    return "".join(r.choice(chars) for _ in range(size))


def value(r, depth=0):
    kind = r.randrange(4 if depth > 4 else 7)
    if kind == 0:
        return r.choice([None, True, False])
    if kind == 1:
        return text(r)
    if kind <= 3:
        return number(r)
    size = r.choice([0, 1, 3, 15, 16, 17]) if depth < 2 else r.randrange(3)
    if kind == 4:
        return {text(r): value(r, depth + 1) for _ in range(size)}
    return [value(r, depth + 1) for _ in range(size)]


def same(a, b):
    """Equal in value, type and sign of zero."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return struct.pack(">d", a) == struct.pack(">d", b)
    return a == b


def main():
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    r = random.Random(seed)
    values = [value(r) for _ in range(ROUNDS)]
    lines = []
    for v in values:
        spaced = (", ", ": ") if r.random() < 0.5 else (",", ":")
        lines.append("J" + json.dumps(v, ensure_ascii=r.random() < 0.5, separators=spaced))
        lines.append("M" + msgpack.packb(v).hex())
    out = subprocess.run([sys.argv[1]], input=("\n".join(lines) + "\n").encode(), check=True,
                         capture_output=True, timeout=60).stdout.decode().split("\n")
    assert len(out) == 2 * ROUNDS + 1, len(out)
    for i, v in enumerate(values):
        packed, back = msgpack.packb(v), out[2 * i + 1]
        assert out[2 * i] == packed.hex(), f"seed {seed}: {lines[2 * i]}: {out[2 * i]}"
        assert same(json.loads(back), v), f"seed {seed}: {lines[2 * i + 1]}: {back}"
    # what Python reads differently or refuses, and what has no JSON
    odd = ["J1e400", "J18446744073709551616", 'J"\\ud800"', "Jnan", "J[1,]", "M" + msgpack.packb(
        math.nan).hex(), "M" + msgpack.packb({1: 2}).hex(), "M" + msgpack.packb(b"\xff\x00").hex(),
        "M" + msgpack.packb(msgpack.Timestamp(5)).hex()]
    out = subprocess.run([sys.argv[1]], input=("\n".join(odd) + "\n").encode(), check=True,
                         capture_output=True, timeout=60).stdout.decode().split("\n")
    assert msgpack.unpackb(bytes.fromhex(out[0])) == math.inf
    assert msgpack.unpackb(bytes.fromhex(out[1])) == 2.0**64
    assert out[2:9] == ["E SURROGATE", "E PAYLOAD", "E PAYLOAD", "E PAYLOAD", "E PAYLOAD", '"/wA="',
                        "E PAYLOAD"], out
    print(f"{ROUNDS} values both ways, seed {seed}")


main()
