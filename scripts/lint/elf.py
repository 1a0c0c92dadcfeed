"""What binutils say about an object, as Python values."""

import re
import struct
import subprocess


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def undefined_symbols(*files):
    """Names that the objects need from outside of all of them."""
    needed, defined = set(), set()
    for line in run("nm", "--format=posix", *files).splitlines():
        fields = line.split()
        if len(fields) < 2 or fields[0].endswith(":"):
            continue
        (needed if fields[1] in "Uwv" else defined).add(fields[0])
    return needed - defined


def dynamic_symbols(file, option):
    """Names with their versions (`memcpy@GLIBC_2.14`) out of the dynamic symbol table."""
    lines = run("nm", "-D", option, "--format=posix", file).splitlines()
    return {line.split()[0] for line in lines if line.strip()}


def dynamic_section(file):
    """[(tag, text)] of the dynamic section."""
    return re.findall(r"^\s*0x[0-9a-f]+\s+\((\w+)\)\s+(.*?)\s*$", run("readelf", "-dW", file), re.MULTILINE)


def relocation_types(file):
    return set(re.findall(r"\b(R_X86_64_\w+)", run("readelf", "-rW", file)))


def tls_size(file):
    """Bytes of thread-local storage that each thread pays for."""
    found = re.search(r"^\s*TLS\s+0x\w+\s+0x\w+\s+0x\w+\s+0x\w+\s+0x(\w+)", run("readelf", "-lW", file), re.MULTILINE)
    return int(found.group(1), 16) if found else 0


def init_functions(file):
    """Names of the functions that run at load."""
    section = re.search(r"\.init_array\s+INIT_ARRAY\s+\w+\s+(\w+)\s+(\w+)", run("readelf", "-SW", file))
    if not section:
        return []
    offset, size = (int(part, 16) for part in section.groups())
    with open(file, "rb") as image:
        image.seek(offset)
        addresses = [entry for (entry,) in struct.iter_unpack("<Q", image.read(size))]
    names = {}
    for line in run("nm", "-C", file).splitlines():
        address, _, name = line.partition(" ")
        if address:
            names.setdefault(int(address, 16), name[2:])
    return [names.get(address, hex(address)) for address in addresses]
