"""Reads the profile format as far as the cases (and test/bench) need it, from its description in profile.proto and nothing else."""

import collections
import zlib

Mapping = collections.namedtuple("Mapping", "id start limit offset file build_id has_functions")
Location = collections.namedtuple("Location", "id mapping_id address lines")  # lines: function ids, innermost first
Function = collections.namedtuple("Function", "id name system_name file")
Label = collections.namedtuple("Label", "key text number unit")


class Sample:
    def __init__(self, locations, values, labels):
        self.locations, self.values, self.labels = locations, values, labels


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def fields(data):
    """(field number, number or bytes) of one message"""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
            assert len(value) == length, "a field is cut off"
        else:
            raise AssertionError(f"wire type {kind}")
        yield key >> 3, value


def group(data):
    found = collections.defaultdict(list)
    for number, value in fields(data):
        found[number].append(value)
    return found


def one(message, number):
    values = message[number]
    assert len(values) < 2, f"field {number} comes {len(values)} times"
    return values[0] if values else 0


def numbers(message, number):
    """A repeated integer, packed or not."""
    result = []
    for value in message[number]:
        if isinstance(value, int):
            result.append(value)
            continue
        at = 0
        while at < len(value):
            item, at = varint(value, at)
            result.append(item)
    return result


def unzip(body):
    """One gzip member with a right checksum and nothing behind it."""
    reader = zlib.decompressobj(wbits=31)
    data = reader.decompress(body) + reader.flush()
    assert reader.eof, "the gzip file is cut off"
    assert not reader.unused_data, "something follows the gzip file"
    return data


class Profile:
    def __init__(self, body):
        assert body[:3] == b"\x1f\x8b\x08", f"not a gzip file: {body[:40]!r}"
        message = group(unzip(body))
        self.strings = [value.decode("utf-8") for value in message[6]]  # raises where it is not UTF-8
        self.sample_types = [self.value_type(value) for value in message[1]]
        self.samples = [self.sample(group(value)) for value in message[2]]
        self.mappings = [self.mapping(group(value)) for value in message[3]]
        self.locations = [self.location(group(value)) for value in message[4]]
        self.functions = [self.function(group(value)) for value in message[5]]
        self.time = signed(one(message, 9))
        self.duration = signed(one(message, 10))
        self.period_type = self.value_type(one(message, 11) or b"")
        self.period = signed(one(message, 12))
        self.comments = [self.strings[index] for index in numbers(message, 13)]
        self.default_type = self.strings[one(message, 14)]
        self.location_of = {location.id: location for location in self.locations}
        self.function_of = {function.id: function for function in self.functions}
        self.mapping_of = {mapping.id: mapping for mapping in self.mappings}

    def value_type(self, data):
        message = group(data)
        return self.strings[one(message, 1)], self.strings[one(message, 2)]

    def sample(self, message):
        labels = []
        for value in message[3]:
            label = group(value)
            labels.append(
                Label(self.strings[one(label, 1)], self.strings[one(label, 2)], signed(one(label, 3)), self.strings[one(label, 4)])
            )
        return Sample(numbers(message, 1), [signed(value) for value in numbers(message, 2)], labels)

    def mapping(self, message):
        start = [one(message, number) for number in (1, 2, 3, 4)]
        return Mapping(*start, self.strings[one(message, 5)], self.strings[one(message, 6)], bool(one(message, 7)))

    def location(self, message):
        lines = [one(group(value), 1) for value in message[4]]
        return Location(one(message, 1), one(message, 2), one(message, 3), lines)

    def function(self, message):
        texts = [self.strings[one(message, number)] for number in (2, 3, 4)]
        return Function(one(message, 1), *texts)

    def identity(self, sample):
        """What scrapers take for the same stack: addresses and labels."""
        return tuple(self.location_of[location].address for location in sample.locations), tuple(sorted(sample.labels))

    def names(self, location):
        return {self.function_of[function].system_name for function in location.lines}
