"""Compiler launcher that keeps objects by content: the preprocessed source, the arguments and the compiler.

Nine tenths of a small simulation build are Verilator's runtime and cocotb's main, the same for every design. Verilator's
Makefiles run the compiler as ``$(OBJCACHE) $(CXX) ...``; this is that command. Standard library only, and started with
``python -S -E``, as it runs once per object. Usage: objcache.py CACHE_DIRECTORY COMPILER ARGUMENT...
"""

import hashlib
import os
import subprocess
import sys
import tempfile

DIGEST = hashlib.sha256().digest_size


def main(cache: str, command: list[str]) -> int:
    if "-c" not in command or "-o" not in command or any(a.endswith((".h", ".gch")) for a in command[-1:]):
        return subprocess.call(command)
    output = command[command.index("-o") + 1]
    # Arguments that name files (outputs, dependency lists) do not change the object.
    preprocess, key_arguments, skip = [], [], False
    for argument in command:
        if skip:
            skip = False
            continue
        if argument in ("-o", "-MF", "-MT", "-MQ"):
            skip = True
            continue
        if argument in ("-c", "-MMD", "-MD", "-MP"):
            continue
        preprocess.append(argument)
        # What these do is in the preprocessed source.
        if not argument.startswith(("-I", "-D", "-fmacro-prefix-map=")) and not argument.endswith((".cpp", ".o")):
            key_arguments.append(argument)
    source = subprocess.run([*preprocess, "-E", "-P"], capture_output=True)
    if source.returncode:
        return subprocess.call(command)
    version = subprocess.run([command[0], "--version"], capture_output=True).stdout
    key = hashlib.sha256(b"\0".join([version, repr(key_arguments).encode(), source.stdout])).hexdigest()
    stored = os.path.join(cache, key[:2], key + ".object")
    content = read(stored)
    if content is not None:
        with open(output, "wb") as file:
            file.write(content)
        return 0
    code = subprocess.call(command)
    if code == 0:
        with open(output, "rb") as file:
            write(stored, file.read())
    return code


def read(stored: str) -> bytes | None:
    """An object that is kept; None if it is not there, or not as it was written."""
    try:
        with open(stored, "rb") as file:
            content = file.read()
    except OSError:
        return None
    digest, content = content[:DIGEST], content[DIGEST:]
    return content if digest == hashlib.sha256(content).digest() else None


def write(stored: str, content: bytes) -> None:
    """Keep an object behind its digest; a store that cannot be written is no reason to fail."""
    partial = None
    try:
        os.makedirs(os.path.dirname(stored), exist_ok=True)
        # Another build may store the same object at the same time: only whole files may appear.
        handle, partial = tempfile.mkstemp(dir=os.path.dirname(stored))
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
        os.replace(partial, stored)
    except OSError:
        if partial and os.path.exists(partial):
            os.unlink(partial)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
