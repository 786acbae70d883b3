"""Repeat cases of the fuzzer: ``python -m tests.fuzz SEED NUMBER [END]``; files are kept."""

import shlex
import sys
import tempfile
from pathlib import Path

from tests.fuzz.cases import Fuzzer

if __name__ == "__main__":
    name, first, *end = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    fuzzer = Fuzzer(name, folder)
    if end:
        for number in range(int(first), int(end[0])):
            for mistake in fuzzer.mistakes(number):
                print(mistake, flush=True)
    else:
        case = fuzzer.case(int(first))
        print(f"cd {case.folder}; cascaderank {shlex.join(case.words)}  # {case.mutation} of {case.file}")
        print(*fuzzer._mistakes(case), sep="\n")
        print((case.folder.parent / "streams" / "stderr").read_text()[-3000:])
