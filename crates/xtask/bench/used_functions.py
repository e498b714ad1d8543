#!/usr/bin/env python3
"""Which functions of the sidecar run in a task: `cargo xtask lean --record`.

Runs the measurements of footprint.py and logs.py with the sidecar under callgrind, which sees every function that is called, and
writes their names. The linker puts those together (sidecar/build.rs). A Rust symbol ends in a hash that changes with
its crate's version; it is left away, so that one name stands for all instances of a generic function.
"""
import argparse, glob, os, re, subprocess, sys, tempfile
from collections import defaultdict

HERE = os.path.dirname(os.path.abspath(__file__))
WRAPPER = """#!/bin/sh
exec valgrind --tool=callgrind --demangle=no --compress-strings=no --compress-pos=no --callgrind-out-file={dir}/calls.%p {binary} "$@"
"""
# What the kernel maps around a page that is touched: an instance left where it lies costs at most that.
MAPPED = 64 * 1024


def key(symbol):
    return re.sub(r"17h[0-9a-f]{16}E(\.llvm\.\d+)?$", "", symbol) if symbol.startswith("_ZN") else symbol


def sizes(binary):
    rows = (line.split() for line in subprocess.run(["nm", "-S", binary], capture_output=True, text=True, check=True).stdout.splitlines())
    return {row[3]: int(row[1], 16) for row in rows if len(row) == 4 and row[2] in "tTwW"}


def called(directory):
    """The symbols in what callgrind has written, which is removed."""
    symbols = set()
    for path in glob.glob(f"{directory}/calls.*"):
        with open(path) as f:
            symbols |= {re.sub(r"'\d+$", "", line.split("=", 1)[1].strip()) for line in f if line.startswith(("fn=", "cfn="))}
        os.remove(path)
    return symbols


def order(size, by_life):
    """Names, those that every life of the sidecar calls before those that only a later one does, and the fully used first."""
    instances, ordered, used = defaultdict(list), [], set()
    for symbol in size:
        instances[key(symbol)].append(symbol)
    everything = set().union(*by_life)
    for life in by_life:
        share = {}
        for name in {key(symbol) for symbol in life - used}.difference(ordered):
            of_name = instances[name]
            runs = [symbol for symbol in of_name if symbol in everything]
            unused = sum(size[symbol] for symbol in of_name) - sum(size[symbol] for symbol in runs)
            if unused <= MAPPED * len(runs):
                share[name] = sum(size[symbol] for symbol in of_name if symbol in life) / max(1, sum(size[symbol] for symbol in of_name))
        ordered += sorted(share, key=lambda name: (-round(share[name], 1), name))
        used |= life
    together = sum(size[symbol] for name in ordered for symbol in instances[name])
    print(f"{len(everything)} functions run, {sum(size[s] for s in everything) / 1024:.0f} KiB; {len(ordered)} names hold {together / 1024:.0f} of {sum(size.values()) / 1024:.0f} KiB")
    return ordered


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the sidecar with its symbols")
    parser.add_argument("--cloud-dir", required=True, help="where fake-aws lies")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    size = sizes(args.binary)
    if len(size) < 10_000:
        sys.exit(f"{args.binary} has no symbols: build it with PICKET_KEEP_SYMBOLS=1")
    with tempfile.TemporaryDirectory() as directory:
        wrapper = os.path.join(directory, "sidecar")
        with open(wrapper, "w") as f:
            f.write(WRAPPER.format(dir=directory, binary=os.path.abspath(args.binary)))
        os.chmod(wrapper, 0o755)
        common = ["--bin-dir", directory, "--rounds", "1"]
        footprint = [sys.executable, f"{HERE}/footprint.py", *common, "--seconds", "12", "--load-seconds", "4"]
        firelens = [sys.executable, f"{HERE}/logs.py", "firelens", *common, "--cloud-dir", args.cloud_dir, "--seconds", "6", "--rate", "200"]
        by_life = []
        for command in ([*footprint, "idle"], [*footprint, "metrics"], firelens, [*footprint, "logs"]):
            subprocess.run(command, check=True)
            by_life.append(called(directory) & size.keys())
    with open(args.out, "w") as f:
        f.write("# Functions that run in a task: cargo xtask lean --record\n")
        f.writelines(f"{name}\n" for name in order(size, by_life))


if __name__ == "__main__":
    main()
