"""Repeat cases of the fuzzer: ``python -m tests.fuzz SEED NUMBER [END]``; files are kept."""

import sys
import tempfile
from pathlib import Path

from tests.fuzz.cases import Fuzzer
from tests.fuzz.processes import forked

if __name__ == "__main__":
    name, first, *end = sys.argv[1:]
    fuzzer = Fuzzer(name, Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-")), forked)
    for number in range(int(first), int(end[0])) if end else ():
        for finding in fuzzer.findings(number):
            print(finding, flush=True)
    if not end:
        case = fuzzer.case(int(first))
        print(f"{case.folder}: {case}", *fuzzer.mistakes(case), sep="\n")
        print((case.streams / "stderr").read_text())
