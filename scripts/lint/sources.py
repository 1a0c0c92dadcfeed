"""The project's files, as every lint sees them: what git tracks or would track, else (no git) the folders."""

import os
import subprocess


def project_files(root, endings=()):
    """Paths relative to root, sorted; only those that end in one of `endings`, when given."""
    found = _git_files(root)
    if found is None:
        found = _walked_files(root)
    return sorted(path for path in set(found)
                  if (not endings or path.endswith(tuple(endings))) and os.path.isfile(os.path.join(root, path)))


def read_text(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def finish(problems, checked):
    """Prints the problems; returns the exit status. A lint that looked at nothing has failed."""
    for problem in problems:
        print(problem)
    print(f"{checked} checked, {len(problems)} problems")
    return 1 if problems or checked == 0 else 0


def _git_files(root):
    # safe.directory: the checkout may belong to another user than the one who runs the tests.
    command = ["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    # Inside another project's repository an unpacked copy of ours is not listed at all.
    return [name for name in done.stdout.decode().split("\0") if name] or None


def _walked_files(root):
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".git", "build")) and name != "__pycache__"]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in files]
    return found
