"""The CPU profilers that are compared, each driven in the same way around a program that does fixed work."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from peers import find_library

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "conformance"))
from surface_cases import pprof  # noqa: E402 (the path comes first)

NANOS = 1_000_000_000


class Worker:
    """cpu_work.cc, told what to do line by line."""

    def __init__(self, program, environment):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL,  # gperftools says there how it was
                                        env={**os.environ, **environment})

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return [int(word) for word in self.process.stdout.readline().split()]

    def work(self, units, threads=1):
        """CPU time in nanoseconds: of the threads that worked, and of the process."""
        return self.ask(f"work {units} {threads}")

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Nothing:
    """Also the base class: a program, and a time that is measured."""

    name = "nothing"
    missing = ""

    def __init__(self, program, scratch, rate, agent=""):
        self.scratch, self.rate, self.agent = scratch, rate, agent
        self.worker = Worker(program, self.environment())

    def environment(self):
        return {}

    def start(self, seconds):
        """Returns once the profile is running. It need not run for longer than `seconds`."""

    def stop(self):
        """CPU time in nanoseconds that the profile shows, and the signals or other samples that it took."""
        return 0, 0


class Preloaded(Nothing):
    name = "profagent, nobody asks"

    def environment(self):
        self.address = os.path.join(self.scratch, f"{id(self)}.sock")
        return {"LD_PRELOAD": self.agent, "PROFAGENT_ADDR": f"unix://{self.address}"}

    def get(self, path):
        for _ in range(100):  # it listens soon after its start
            try:
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(self.address)
                break
            except OSError:
                time.sleep(0.05)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.splitlines()[0]:
            raise RuntimeError(f"{path}: {answer[:300]}")
        return body


class Profagent(Preloaded):
    name = "profagent"

    def signals(self):
        text = self.get("/debug/pprof/agent?format=text").decode()
        return next(int(line.split()[-1]) for line in text.splitlines() if "cpu_samples" in line)

    def start(self, seconds):
        self.before = self.signals()
        path = f"/debug/pprof/profile?seconds={seconds}&hz={self.rate}"
        self.request = threading.Thread(target=lambda: setattr(self, "body", self.get(path)))
        self.request.start()
        time.sleep(0.05)  # its timers exist long before

    def stop(self):
        self.request.join()
        return total_cpu(self.body), self.signals() - self.before


class Gperftools(Nothing):
    name = "gperftools"
    missing = "" if find_library("libprofiler.so.0") else "no libgoogle-perftools4 (scripts/setup.sh bench)"

    def environment(self):
        self.file = os.path.join(self.scratch, f"{id(self)}.prof")
        return {"CPUPROFILE_FREQUENCY": str(self.rate)}

    def start(self, seconds):
        if self.worker.ask(f"start {self.file}") != [1]:
            raise RuntimeError("gperftools did not start")

    def stop(self):
        self.worker.ask("stop")
        with open(self.file, "rb") as file:
            data = file.read()
        # Words: 0, 3, 0, the period in microseconds, 0; then count, depth and addresses of each stack; the
        # last one has count 0 and is followed by the text of /proc/self/maps.
        period = struct.unpack_from("<5Q", data)[3]
        at, samples = 40, 0
        while True:
            count, depth = struct.unpack_from("<2Q", data, at)
            if count == 0:
                return samples * period * 1000, samples
            samples += count
            at += 16 + 8 * depth


def why_no_perf():
    if shutil.which("perf") is None:
        return "not installed (scripts/setup.sh bench)"
    done = subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-o", "/dev/null", "true"],
                          capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else "it may not run here"


class Perf(Nothing):
    """Walks by frame pointers in the kernel; without them, as here, its stacks are short or wrong. Its other
    way copies 8 KiB of stack for every sample."""

    name = "perf (-g)"
    missing = why_no_perf()

    def start(self, seconds):
        self.file = os.path.join(self.scratch, f"{id(self)}.perf")
        pipes = [f"{self.file}.{end}" for end in ("control", "answer")]
        for pipe in pipes:
            if not os.path.exists(pipe):
                os.mkfifo(pipe)
        self.process = subprocess.Popen(
            ["perf", "record", "-q", "-g", "-e", "cpu-clock", "-F", str(self.rate), "-D", "-1", "-o", self.file,
             "--control", f"fifo:{','.join(pipes)}", "-p", str(self.worker.process.pid)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(pipes[0], "w", encoding="ascii") as control, open(pipes[1], "rb", buffering=0) as answer:
            control.write("enable\n")
            control.flush()
            answer.read(4)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        report = subprocess.run(["perf", "report", "-i", self.file, "--stdio", "-g", "none"], capture_output=True,
                                text=True, check=False).stdout
        nanos = sum(int(line.split()[-1]) for line in report.splitlines() if line.startswith("# Event count"))
        return nanos, nanos * self.rate // NANOS


def total_cpu(body):
    """Nanoseconds of all samples together."""
    return sum(sample.values[1] for sample in pprof.Profile(body).samples)
