"""Golden lists: one name a line, '#' opens a comment. What a list does not allow is a problem."""


def read_list(path):
    with open(path, encoding="utf-8") as file:
        lines = (line.split("#")[0].strip() for line in file)
        return {line for line in lines if line}


def compare(found, path, what):
    """Yields a problem for each found name that the list lacks. Names that were not found are only told:
    another compiler or optimisation level may need them."""
    allowed = read_list(path)
    for name in sorted(found - allowed):
        yield f"{what}: {name} is not in {path}"
    unneeded = sorted(allowed - found)
    if unneeded:
        print(f"note: in {path} but not needed by this build: {' '.join(unneeded)}")
