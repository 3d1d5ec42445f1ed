"""Check that this CPU computes the bits that every CPU with fused multiply-adds must compute.

    python check_same_bits.py PROGRAM [--run "qemu-aarch64-static;-L;/usr/aarch64-linux-gnu"] [--write]

PROGRAM prints results for each of its instruction sets, see print_results.cpp. SHA-256 sums of the results are kept in
sums.json, beside this file; --write replaces them, which is right only if a change was meant to change bits.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

SUMS = Path(__file__).with_name("sums.json")
THREADS = (1, 2)


def sums_of(command: list[str], isa: str, threads: int) -> dict[str, str]:
    """Run the program, and give the sum of each case."""
    run = subprocess.run([*command, isa, str(threads)], stdout=subprocess.PIPE, check=True, text=True)
    cases = (line.rpartition(" ") for line in run.stdout.splitlines())
    return {name: hashlib.sha256(bytes.fromhex(digits)).hexdigest() for name, _, digits in cases}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--run", default="", help="an emulator and its options, divided by semicolons")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    command = [*filter(None, arguments.run.split(";")), arguments.program]
    isas = subprocess.run([*command, "--isas"], stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    if not isas:
        print("no instruction set with fused multiply-adds can run here, so there is nothing to compare")
        return 0
    if arguments.write:
        SUMS.write_text(json.dumps(sums_of(command, isas[0], 1), indent=0) + "\n", encoding="utf-8")
    expected = json.loads(SUMS.read_text(encoding="utf-8"))
    wrong = 0
    for isa in isas:
        for threads in THREADS:
            found = sums_of(command, isa, threads)
            differing = [name for name in expected | found if expected.get(name) != found.get(name)]
            print(f"{isa}, {threads} thread(s): {len(found)} cases, {len(differing)} differ")
            for name in differing:
                print(f"  {name}")
            wrong += len(differing)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
